"""The ledger: every question that was put to a model, every attempt at it, every answer, every verdict.

An intent is on disk before a call leaves, and the raw answer before anybody reads it. So after a kill the calls that were in
flight are known: they are settled as orphaned when the ledger is opened again, and are the only ones that are asked again.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from potstill.errors import StoreError
from potstill.records import Completion, Cost, Message, Request, Sampling, TokenLogprob, Usage, Verdict
from potstill.store.atomic import store_error

SCHEMA_VERSION = 4
_APPLICATION_ID = 0x506F7473  # "Pots": tells a ledger from any other SQLite file
_KEYS_A_QUERY = 1000

_SCHEMA = """
CREATE TABLE question (
    key     TEXT PRIMARY KEY,  -- models.ask.request_key
    model   TEXT NOT NULL,     -- Model.identity
    request TEXT NOT NULL      -- messages, sampling and sample, as JSON
);
CREATE TABLE attempt (
    id            INTEGER PRIMARY KEY,
    key           TEXT NOT NULL REFERENCES question (key),
    state         TEXT NOT NULL CHECK (state IN ('intent', 'answered', 'failed', 'orphaned')),
    started       REAL NOT NULL,  -- seconds since 1970, as `finished`
    finished      REAL,
    input_tokens  INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    finish_reason TEXT,
    latency_s     REAL,
    error         TEXT,
    text          TEXT,
    dollars       REAL,           -- NULL: the price is unknown
    model         TEXT,           -- the name that came with the answer
    run           TEXT NOT NULL DEFAULT '',   -- who asked: ledgers may be shared
    held_tokens   INTEGER NOT NULL DEFAULT 0, -- the most that the call could cost
    held_dollars  REAL DEFAULT 0,
    uncertain     INTEGER NOT NULL DEFAULT 0, -- what it cost is not known, and counts as what was held
    fault         TEXT,           -- why a failed call may be tried again; NULL: it would fail again
    reasoning     TEXT,
    logprobs      TEXT,           -- JSON: [[token, logprob, [[token, logprob], ...]], ...]
    raw           BLOB,           -- the body as it came, zlib
    batch         TEXT            -- our id of the provider's batch that it is part of
);
CREATE INDEX attempt_of_question ON attempt (key);
CREATE INDEX attempt_of_batch ON attempt (batch) WHERE batch IS NOT NULL;
-- All that sums need, in the order of time, so that they read no answers and new entries go to the end.
CREATE INDEX attempt_sums ON attempt
    (run, started, finished, state, uncertain, held_tokens, held_dollars, input_tokens, output_tokens, dollars);
CREATE TABLE batch (
    id          TEXT PRIMARY KEY,  -- ours; it stands in the provider's metadata
    endpoint    TEXT NOT NULL,     -- Model.identity
    provider_id TEXT,              -- NULL: not known to have been submitted
    state       TEXT NOT NULL CHECK (state IN ('prepared', 'submitted', 'collected', 'lost')),
    created     REAL NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX attempt_in_flight ON attempt (key) WHERE state = 'intent';
CREATE TABLE verdict (
    key     TEXT NOT NULL,
    row     TEXT NOT NULL,  -- the row of data that the answer was judged for: its gold answer counts
    gate    TEXT NOT NULL,
    version INTEGER NOT NULL,
    keep    INTEGER NOT NULL,
    reason  TEXT NOT NULL,
    code    TEXT NOT NULL DEFAULT '',  -- the reason in a word, to count by
    PRIMARY KEY (key, row, gate, version)
) WITHOUT ROWID;
CREATE TABLE asked (
    run     TEXT NOT NULL,
    since   REAL NOT NULL,  -- seconds since 1970; tells stretches of asking apart
    seconds REAL NOT NULL,  -- that it took, waits included
    dollars REAL NOT NULL,  -- of machines paid by the hour meanwhile, less those that attempts were charged with
    PRIMARY KEY (run, since)
) WITHOUT ROWID;
"""

# How an attempt of another ledger is taken over, by column; `theirs` is its row. A second answer to a question counts as a call whose
# answer never came, and that cost what it cost.
_STANDS = "state = 'answered' AND EXISTS (SELECT 1 FROM attempt AS ours WHERE ours.key = theirs.key AND ours.state = 'answered')"
_TAKEN_OVER = {
    "state": f"iif(state = 'intent' OR {_STANDS}, 'orphaned', state)",
    "uncertain": f"state = 'intent' OR uncertain OR {_STANDS}",
    "held_tokens": "iif(state = 'answered' AND NOT uncertain, input_tokens + output_tokens, held_tokens)",
    "held_dollars": "iif(state = 'answered' AND NOT uncertain, dollars, held_dollars)",
}

# What a ledger of an earlier version lacks.
_UPGRADES = {
    1: """
ALTER TABLE attempt ADD COLUMN run TEXT NOT NULL DEFAULT '';
ALTER TABLE attempt ADD COLUMN held_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN held_dollars REAL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN uncertain INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN fault TEXT;
ALTER TABLE attempt ADD COLUMN reasoning TEXT;
ALTER TABLE attempt ADD COLUMN logprobs TEXT;
ALTER TABLE attempt ADD COLUMN raw BLOB;
ALTER TABLE attempt ADD COLUMN batch TEXT;
ALTER TABLE verdict ADD COLUMN code TEXT NOT NULL DEFAULT '';
CREATE INDEX attempt_of_batch ON attempt (batch) WHERE batch IS NOT NULL;
CREATE TABLE batch (
    id TEXT PRIMARY KEY, endpoint TEXT NOT NULL, provider_id TEXT,
    state TEXT NOT NULL CHECK (state IN ('prepared', 'submitted', 'collected', 'lost')), created REAL NOT NULL
) WITHOUT ROWID;
""",
    2: """
CREATE INDEX IF NOT EXISTS attempt_sums ON attempt
    (run, started, finished, state, uncertain, held_tokens, held_dollars, input_tokens, output_tokens, dollars);
CREATE TABLE asked (run TEXT PRIMARY KEY, seconds REAL NOT NULL) WITHOUT ROWID;
""",
    3: """
ALTER TABLE asked RENAME TO asked_in_all;
CREATE TABLE asked (
    run TEXT NOT NULL, since REAL NOT NULL, seconds REAL NOT NULL, dollars REAL NOT NULL, PRIMARY KEY (run, since)
) WITHOUT ROWID;
INSERT INTO asked SELECT run, 0, seconds, 0 FROM asked_in_all;
DROP TABLE asked_in_all;
""",
}


@dataclass(frozen=True, slots=True)
class Totals:
    """What a ledger has seen in all its life.

    `calls` = `answered` + `failed` + `orphaned` (killed or stopped) + those in flight. `dollars` is None where the price of some
    call is unknown. `seconds` is the time in which at least one call was in flight.
    """

    calls: int
    answered: int
    failed: int
    orphaned: int
    usage: Usage
    dollars: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """A question in a provider's batch: the most that it can cost, and whether this ledger's run has asked it."""

    key: str
    request: Request
    most: Cost
    own: bool


@dataclass(frozen=True, slots=True)
class Recent:
    """Calls to a model (its identity) within a second: when the last one left, how many, and their tokens."""

    model: str
    at: float
    calls: int
    tokens: float


class Ledger:
    """Questions and answers in one SQLite file; one process at a time, and in it the thread that opened it.

    An answer stands for ever. A failed call stands as long as this ledger is open (`missing` leaves it out, so that it is data
    to this run), and is asked again by the next process. Runs may share a ledger: `run` names whose calls these are, and figures
    are of that run's calls alone (of all, where it is empty). `wait_s` is how long another process may take to let go of the file.

    Where the file cannot be written to (full disk, read-only), it is open for reading, and `read_only` says why. Every method raises
    StoreError where the file is full, read-only, damaged or in use by another process; what was committed before stays.
    """

    def __init__(self, path: Path, run: str = "", *, wait_s: float = 1.0) -> None:
        self.path, self.run = path, run
        self.orphaned = 0
        """Calls that were in flight when the last process ended, and are settled now."""
        self.read_only: str | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise store_error(path, error) from None
        with self._in_our_words():
            self._db = sqlite3.connect(path, isolation_level=None, timeout=wait_s)
        try:
            self._open()
        except StoreError:
            self._db.close()
            raise

    def _open(self) -> None:
        with self._in_our_words():
            # Exclusive: a second process is refused, and the write-ahead index needs no shared memory, so network disks work too.
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._check_kind()
            try:
                self._prepare_to_write()
            except sqlite3.DatabaseError as error:
                if primary_code(error) not in _UNWRITABLE or self._pragma("user_version") != SCHEMA_VERSION:
                    raise
                self.read_only = _ADVICE[primary_code(error)]
            self._opened_after = self._one("SELECT coalesce(max(id), 0) FROM attempt")

    def _prepare_to_write(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._make_tables()
            self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")  # always written: a disk that is full shows itself here
            # What waits in a provider's batch is in flight whether or not a process is there.
            settled = self._db.execute(
                "UPDATE attempt SET state = 'orphaned', finished = ?, uncertain = 1 WHERE state = 'intent' AND (batch IS NULL"
                " OR batch NOT IN (SELECT id FROM batch WHERE state IN ('prepared', 'submitted')))",
                (time.time(),),
            )
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        self.orphaned = settled.rowcount

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        with self._in_our_words():
            self._db.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything written in the block is on disk together when it ends, or not at all; a block inside a block joins it."""
        if self._db.in_transaction:
            yield
            return
        with self._in_our_words():
            self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._in_our_words():
                self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")

    def note_asking(self, since: float, seconds: float, dollars: float) -> None:
        """Write down how long a stretch of asking took that began then (seconds since 1970); the last word on it counts.

        `dollars` are what machines paid by the hour have cost meanwhile, less what the recorded answers were charged with.
        """
        with self._in_our_words():
            self._db.execute("INSERT OR REPLACE INTO asked VALUES (?, ?, ?, ?)", (self.run, since, seconds, dollars))

    def seconds_asked(self) -> float:
        """Seconds that were spent asking; at least those in which calls were in flight, which other processes may have made."""
        with self._in_our_words():
            noted = self._db.execute(f"SELECT total(seconds) FROM asked WHERE {self._own}").fetchone()[0]
        return max(float(noted), self.usage().seconds)

    def intend(
        self, keys: Sequence[str], requests: Sequence[Request], model: str, holds: Sequence[Cost] | None = None, batch: str | None = None
    ) -> None:
        """Write down that these questions are about to be put to `model` (its identity); one transaction.

        `holds` are the most that each call can cost; `batch` is our id of the provider's batch that will carry them.
        """
        now = time.time()
        held = holds or [Cost()] * len(keys)
        with self.transaction(), self._in_our_words():
            self._db.executemany(
                "INSERT OR IGNORE INTO question (key, model, request) VALUES (?, ?, ?)",
                ((key, model, _request_json(request)) for key, request in zip(keys, requests, strict=True)),
            )
            self._db.executemany(
                "INSERT INTO attempt (key, state, started, run, held_tokens, held_dollars, batch) VALUES (?, 'intent', ?, ?, ?, ?, ?)",
                ((key, now, self.run, most.tokens, most.dollars, batch) for key, most in zip(keys, held, strict=True)),
            )

    def record(self, keys: Sequence[str], completions: Sequence[Completion], dollars: Sequence[float | None]) -> None:
        """Write down what came back for questions that were intended; one transaction."""
        now = time.time()
        with self.transaction(), self._in_our_words():
            settled = self._db.executemany(
                "UPDATE attempt SET state = ?, finished = ?, input_tokens = ?, output_tokens = ?, finish_reason = ?, latency_s = ?,"
                " error = ?, text = ?, model = ?, uncertain = ?, fault = ?, reasoning = ?, logprobs = ?, raw = ?, dollars = ?"
                " WHERE key = ? AND state = 'intent'",
                ((*_columns(answer, now), price, key) for key, answer, price in zip(keys, completions, dollars, strict=True)),
            )
            assert settled.rowcount == len(keys), "an answer was recorded without an intent"

    def abandon(self, keys: Sequence[str], *, charged: bool = True) -> None:
        """Write down that nobody waits for these calls any more, so that their questions may be asked again; one transaction.

        `charged` says whether they may have been charged for.
        """
        now = time.time()
        with self.transaction(), self._in_our_words():
            self._db.executemany(
                "UPDATE attempt SET state = 'orphaned', finished = ?, uncertain = ? WHERE key = ? AND state = 'intent'",
                ((now, charged, key) for key in keys),
            )

    def get(self, key: str, *, settled: bool = False) -> Completion | None:
        """The answer to a question; where there is none, its last failed call (`settled`: since the ledger was opened); else None."""
        with self._in_our_words():
            row = self._db.execute(
                f"SELECT {_ANSWER} FROM attempt WHERE key = ? AND (state = 'answered' OR state = 'failed' AND id > ?)"
                " ORDER BY state = 'answered' DESC, id DESC LIMIT 1",
                (key, self._opened_after if settled else 0),
            ).fetchone()
        return None if row is None else _completion(row)

    def may_pass(self, key: str) -> bool:
        """Whether a question's last call failed for a reason that may pass, so that asking again may help."""
        with self._in_our_words():
            row = self._db.execute(
                "SELECT fault FROM attempt WHERE key = ? AND state = 'failed' ORDER BY id DESC LIMIT 1", (key,)
            ).fetchone()
        return row is not None and row[0] is not None

    def has_answers(self, model: str) -> bool:
        """Whether a model (its identity) has ever answered a question."""
        with self._in_our_words():
            return bool(
                self._one(
                    "SELECT EXISTS (SELECT 1 FROM question JOIN attempt USING (key) WHERE question.model = ? AND state = 'answered')", model
                )
            )

    def answers(self) -> Iterator[tuple[str, Request, Completion]]:
        """Every answer with its question's key, one at a time; the last where a question has several."""
        query = f"SELECT key, request, {_ANSWER} FROM attempt JOIN question USING (key) WHERE state = 'answered' ORDER BY attempt.id"
        with self._in_our_words():
            for key, request, *row in self._db.execute(query):
                yield key, _request(request), _completion(row)

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Those of `keys`, in order, that have neither an answer nor a call that failed since the ledger was opened."""
        settled = self._those(keys, f"(state = 'answered' OR state = 'failed' AND id > {self._opened_after})")
        return [key for key in keys if key not in settled]

    def in_batches(self, keys: Sequence[str]) -> set[str]:
        """Those of `keys` that wait in a provider's batch."""
        return self._those(keys, "state = 'intent' AND batch IS NOT NULL")

    def _those(self, keys: Sequence[str], condition: str) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(keys), _KEYS_A_QUERY):
            some = keys[start : start + _KEYS_A_QUERY]
            with self._in_our_words():
                rows = self._db.execute(f"SELECT key FROM attempt WHERE key IN ({_marks(some)}) AND {condition}", some)
                found.update(key for (key,) in rows)
        return found

    def merge(self, other: Path) -> int:
        """Take over another ledger's attempts; returns how many questions have an answer that had none.

        The other file must be closed, and is only read. Its calls in flight become orphaned ones. Where both have answered a question,
        the answer that is here stands, and what the other cost counts all the same. Merging twice changes nothing. Raises StoreError
        where the other file is missing, no ledger, in use, or of another version.
        """
        with self._attached(other):
            self._db.execute("INSERT OR IGNORE INTO question SELECT * FROM other.question")
            names = self._attempt_columns()
            taken = ", ".join(_TAKEN_OVER.get(name, name) for name in names)
            before = self._one("SELECT count(*) FROM attempt WHERE state = 'answered'")
            self._db.execute(
                f"INSERT INTO attempt ({', '.join(names)}) SELECT {taken} FROM other.attempt AS theirs WHERE NOT EXISTS"
                " (SELECT 1 FROM attempt AS ours WHERE ours.key = theirs.key AND ours.started = theirs.started)"
                " ORDER BY theirs.id"
            )
            # Theirs ran beside ours, so their time is no time of its own.
            self._db.execute("INSERT OR IGNORE INTO asked SELECT run, since, 0, dollars FROM other.asked")
            return self._one("SELECT count(*) FROM attempt WHERE state = 'answered'") - before

    def lend(self, other: Path, keys: Sequence[str]) -> None:
        """Copy the answers to these questions into another ledger, so that they are not asked for there again. Raises as `merge`.

        In that ledger's figures nothing of it counts: they are calls of no run.
        """
        names = self._attempt_columns()
        lent = ", ".join("''" if name == "run" else name for name in names)
        every = [(key,) for key in keys]
        with self._attached(other):
            self._db.executemany("INSERT OR IGNORE INTO other.question SELECT * FROM main.question WHERE key = ?", every)
            self._db.executemany(
                f"INSERT INTO other.attempt ({', '.join(names)}) SELECT {lent} FROM main.attempt WHERE key = ? AND state = 'answered'",
                every,
            )

    def _attempt_columns(self) -> list[str]:
        return [name for _, name, *_ in self._db.execute("PRAGMA main.table_info(attempt)") if name != "id"]

    @contextlib.contextmanager
    def _attached(self, other: Path) -> Iterator[None]:
        """A transaction with another ledger's tables under the name `other`."""
        with self._in_our_words(other):
            self._attach(other)
            try:
                with self.transaction():
                    yield
            finally:
                self._db.execute("DETACH DATABASE other")

    def _attach(self, other: Path) -> None:
        if not other.exists():
            raise StoreError(f"{other}: there is no such ledger")
        self._db.execute("ATTACH DATABASE ? AS other", (str(other),))
        if self._pragma("other.application_id") != _APPLICATION_ID or self._pragma("other.user_version") != SCHEMA_VERSION:
            self._db.execute("DETACH DATABASE other")
            raise StoreError(
                f"{other}: is not a ledger of this version (version {SCHEMA_VERSION}); `potstill generate` brings older ones up"
            )

    def open_batch(self, batch: str, endpoint: str) -> None:
        """Write down a batch of ours before it is submitted to `endpoint` (a model's identity)."""
        with self.transaction(), self._in_our_words():
            self._db.execute("INSERT INTO batch VALUES (?, ?, NULL, 'prepared', ?)", (batch, endpoint, time.time()))

    def note_batch(self, batch: str, state: Literal["submitted", "collected", "lost"], provider_id: str | None = None) -> None:
        """Write down what became of a batch.

        Of one that is `collected`, or `lost` (never submitted), what has no answer was not charged for, and may be asked again.
        """
        with self.transaction(), self._in_our_words():
            self._db.execute("UPDATE batch SET state = ?, provider_id = coalesce(?, provider_id) WHERE id = ?", (state, provider_id, batch))
            if state != "submitted":
                self._db.execute(
                    "UPDATE attempt SET state = 'orphaned', finished = ?, uncertain = 0 WHERE batch = ? AND state = 'intent'",
                    (time.time(), batch),
                )

    def open_batches(self, endpoint: str) -> list[tuple[str, str | None]]:
        """Batches at `endpoint` that are not collected yet: our id, and the provider's where it is known."""
        with self._in_our_words():
            return self._db.execute(
                "SELECT id, provider_id FROM batch WHERE endpoint = ? AND state IN ('prepared', 'submitted') ORDER BY created, id",
                (endpoint,),
            ).fetchall()

    def waiting(self, batch: str, keys: Sequence[str] | None = None) -> list[Waiting]:
        """The questions of a batch that have no answer yet; of `keys`, where given."""
        among = "" if keys is None else f" AND key IN ({_marks(keys)})"
        with self._in_our_words():
            rows = self._db.execute(
                f"SELECT key, request, held_tokens, held_dollars, {self._own} FROM attempt JOIN question USING (key)"
                f" WHERE batch = ? AND state = 'intent'{among} ORDER BY attempt.id",
                (batch, *(keys or ())),
            ).fetchall()
        return [Waiting(key, _request(text), Cost(1, tokens, dollars), bool(own)) for key, text, tokens, dollars, own in rows]

    def keys_waiting(self, batch: str) -> list[str]:
        """The keys of a batch's questions that have no answer yet."""
        with self._in_our_words():
            return [key for (key,) in self._db.execute("SELECT key FROM attempt WHERE batch = ? AND state = 'intent'", (batch,))]

    def held(self, batch: str) -> Cost:
        """The most that a batch's questions without an answer can cost, as far as this run has asked them."""
        with self._in_our_words():
            calls, tokens, dollars, unpriced = self._db.execute(
                "SELECT count(*), total(held_tokens), total(held_dollars), total(held_dollars IS NULL) FROM attempt"
                f" WHERE batch = ? AND state = 'intent' AND {self._own}",
                (batch,),
            ).fetchone()
        return Cost(int(calls), int(tokens), None if unpriced else float(dollars))

    def judge(self, verdicts: Iterable[tuple[str, str, Verdict]]) -> None:
        """Write down what gates say: (key of the question, id of the row, verdict); one transaction, the last word counts."""
        with self.transaction(), self._in_our_words():
            self._db.executemany(
                "INSERT OR REPLACE INTO verdict (key, row, gate, version, keep, reason, code) VALUES (?, ?, ?, ?, ?, ?, ?)",
                ((key, row, said.gate, said.version, said.keep, said.reason, said.code) for key, row, said in verdicts),
            )

    def verdicts(self, key: str, row: str) -> list[Verdict]:
        """What gates said of an answer for a row of data, by gate and version."""
        with self._in_our_words():
            found = self._db.execute(
                "SELECT gate, keep, reason, version, code FROM verdict WHERE key = ? AND row = ? ORDER BY gate, version", (key, row)
            ).fetchall()
        return [Verdict(gate, bool(keep), reason, version, code) for gate, keep, reason, version, code in found]

    def dollars(self) -> float | None:
        """Dollars spent in all; None where the price of some call is unknown."""
        with self._in_our_words():
            spent, unpriced = self._db.execute(
                f"SELECT total(dollars) + {self._by_the_hour}, total(dollars IS NULL) FROM attempt"
                f" WHERE state IN ('answered', 'failed') AND {self._own}"
            ).fetchone()
        return None if unpriced else float(spent)

    def dollars_for(self, keys: Iterable[str]) -> float | None:
        """Dollars spent on some questions, all their calls together; None where the price of some call is unknown."""
        total: float | None = 0.0
        for key in keys:
            with self._in_our_words():
                spent, unpriced = self._db.execute(
                    "SELECT total(dollars), total(dollars IS NULL) FROM attempt WHERE key = ? AND state IN ('answered', 'failed')", (key,)
                ).fetchone()
            total = None if total is None or unpriced else total + spent
        return total

    def spent(self) -> Cost:
        """What counts against a budget: what was charged, and what may have been (its most, as it was held)."""
        unsure = "(state = 'intent' OR uncertain)"
        with self._in_our_words():
            calls, tokens, dollars, unpriced = self._db.execute(
                f"SELECT count(*), total(iif({unsure}, held_tokens, input_tokens + output_tokens)),"
                f" total(iif({unsure}, held_dollars, dollars)) + {self._by_the_hour}, total(iif({unsure}, held_dollars, dollars) IS NULL)"
                f" FROM attempt WHERE NOT (state = 'orphaned' AND NOT uncertain) AND {self._own}"
            ).fetchone()
        return Cost(int(calls), int(tokens), None if unpriced else float(dollars))

    def usage(self) -> Totals:
        """Calls, tokens, dollars and seconds of all attempts, those of earlier processes included."""
        with self._in_our_words():
            counts = dict(self._db.execute(f"SELECT state, count(*) FROM attempt WHERE {self._own} GROUP BY state"))
            tokens = self._db.execute(f"SELECT total(input_tokens), total(output_tokens) FROM attempt WHERE {self._own}").fetchone()
            spans = self._db.execute(
                f"SELECT started, finished FROM attempt WHERE state IN ('answered', 'failed') AND {self._own} ORDER BY started"
            )
            seconds = _covered(spans)
        return Totals(
            calls=sum(counts.values()),
            answered=counts.get("answered", 0),
            failed=counts.get("failed", 0),
            orphaned=counts.get("orphaned", 0),
            usage=Usage(int(tokens[0]), int(tokens[1])),
            dollars=self.dollars(),
            seconds=seconds,
        )

    def recent(self, since: float) -> list[Recent]:
        """Calls since then (seconds since 1970), those of a second together, oldest first: what counts for rates.

        Questions of a provider's batch do not.
        """
        unsure = "(state = 'intent' OR uncertain)"
        with self._in_our_words():
            found = self._db.execute(
                "SELECT question.model, max(started), count(*), total("
                f"iif({unsure}, held_tokens, input_tokens + output_tokens)) FROM attempt JOIN question USING (key)"
                f" WHERE started >= ? AND batch IS NULL AND {self._own} GROUP BY question.model, CAST(started AS INTEGER) ORDER BY 2",
                (since,),
            ).fetchall()
        return [Recent(*row) for row in found]

    @property
    def _own(self) -> str:
        name = self.run.replace("'", "''")
        return f"run = '{name}'" if self.run else "1"

    @property
    def _by_the_hour(self) -> str:
        """Dollars that no attempt was charged with, as part of a sum."""
        return f"(SELECT total(dollars) FROM asked WHERE {self._own})"

    def _check_kind(self) -> None:
        version, application = self._pragma("user_version"), self._pragma("application_id")
        empty = self._one("SELECT count(*) FROM sqlite_master") == 0
        if not empty and application != _APPLICATION_ID:
            raise StoreError(f"{self.path}: is an SQLite file of another program, not a ledger; move it away")
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path}: was written by a newer Potstill (ledger version {version}; known here: {SCHEMA_VERSION}); update Potstill"
            )

    def _make_tables(self) -> None:
        """What this version of the schema has and the file lacks; inside the caller's transaction."""
        version = self._pragma("user_version")
        if version == SCHEMA_VERSION:
            return
        script = _SCHEMA if version == 0 else "".join(_UPGRADES[step] for step in range(version, SCHEMA_VERSION))
        for statement in script.split(";\n"):
            self._db.execute(statement)
        self._db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")

    def _pragma(self, name: str) -> int:
        return self._one(f"PRAGMA {name}")

    def _one(self, query: str, *values: object) -> int:
        return int(self._db.execute(query, values).fetchone()[0])

    @contextlib.contextmanager
    def _in_our_words(self, path: Path | None = None) -> Iterator[None]:
        try:
            yield
        except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
            raise
        except sqlite3.DatabaseError as error:
            raise ledger_error(path or self.path, error) from error


IN_USE = "the ledger is in use by another process; wait for it, or give this run another name"
_ADVICE = {
    sqlite3.SQLITE_BUSY: IN_USE,
    sqlite3.SQLITE_LOCKED: IN_USE,
    sqlite3.SQLITE_FULL: "the disk is full; free some space and run the same command again: what was answered is kept",
    sqlite3.SQLITE_READONLY: "the ledger may not be written to; check the permissions of the file and of its folder",
    sqlite3.SQLITE_PERM: "the ledger may not be written to; check the permissions of the file and of its folder",
    sqlite3.SQLITE_CANTOPEN: "the ledger cannot be opened; check that its folder is there and may be written to",
    sqlite3.SQLITE_IOERR: "the disk refused to read or write; check its space and health, and run the same command again",
    sqlite3.SQLITE_NOTADB: "is not a ledger (not an SQLite file); move it away, and the questions are asked afresh",
    sqlite3.SQLITE_CORRUPT: "the ledger is damaged; save what can be read with `sqlite3 FILE .recover`, or move it away and ask afresh",
}


_UNWRITABLE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR}


def ledger_error(path: Path, error: sqlite3.DatabaseError) -> StoreError:
    """An SQLite error in words that say what to do."""
    return StoreError(f"{path}: {_ADVICE.get(primary_code(error), str(error))}")


def primary_code(error: sqlite3.DatabaseError) -> int:
    """SQLite's result code without its details; 0 where Python raised the error itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _columns(answer: Completion, now: float) -> tuple[object, ...]:
    state = "failed" if answer.finish_reason == "error" else "answered"
    tokens = (answer.usage.input_tokens, answer.usage.output_tokens)
    return (
        state,
        now,
        *tokens,
        answer.finish_reason,
        answer.latency_s,
        _storable(answer.error),
        _storable(answer.text),
        _storable(answer.model),
        not answer.counted or (answer.fault is not None and answer.fault.charged),
        answer.fault and answer.fault.kind,
        _storable(answer.reasoning),
        json.dumps([[t.token, t.logprob, t.top] for t in answer.logprobs]) if answer.logprobs else None,
        zlib.compress(answer.raw.encode("utf-8", "replace"), 1) if answer.raw else None,
    )


_ANSWER = "text, finish_reason, input_tokens, output_tokens, latency_s, attempt.model, error, reasoning, logprobs"


def _completion(row: Sequence[Any]) -> Completion:
    text, finish_reason, read, written, latency_s, model, error, reasoning, logprobs = row
    found = json.loads(logprobs) if logprobs else ()
    tokens = tuple(TokenLogprob(token, value, tuple((t, v) for t, v in top)) for token, value, top in found)
    return Completion(text, finish_reason, Usage(read, written), latency_s, model, error, reasoning, tokens)


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))


def _storable(text: str | None) -> str | None:
    """Text without lone surrogates, which JSON may bring and UTF-8 cannot hold."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _request_json(request: Request) -> str:
    row: dict[str, Any] = {
        "messages": [message.to_json() for message in request.messages],
        "sampling": request.sampling.to_json(),
        "sample": request.sample,
    }
    optional = {"schema": request.schema, "top_logprobs": request.top_logprobs, "prompt_version": request.prompt_version}
    return json.dumps(row | {name: value for name, value in optional.items() if value})


def _request(text: str) -> Request:
    row = json.loads(text)
    sampling = row["sampling"] | {"stop": tuple(row["sampling"]["stop"])}
    messages = tuple(Message(turn["role"], turn["content"]) for turn in row["messages"])
    extra = {name: row[name] for name in ("schema", "top_logprobs", "prompt_version") if name in row}
    return Request(messages, Sampling(**sampling), row["sample"], **extra)


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of spans that come in the order of their starts."""
    seconds, end = 0.0, float("-inf")
    for start, finish in spans:
        seconds += max(0.0, finish - max(start, end))
        end = max(end, finish)
    return seconds

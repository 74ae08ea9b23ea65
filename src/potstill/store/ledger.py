"""The ledger: every question that was put to a model, every attempt at it, every answer, every verdict.

An intent is on disk before a call leaves, and the raw answer before anybody reads it. So after a kill the calls that were in
flight are known: they are settled as orphaned when the ledger is opened again, and are the only ones that are asked again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from potstill.errors import StoreError
from potstill.records import Completion, Request, Usage, Verdict
from potstill.store.atomic import store_error

SCHEMA_VERSION = 1
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
    model         TEXT            -- the name that came with the answer
);
CREATE INDEX attempt_of_question ON attempt (key);
CREATE UNIQUE INDEX attempt_in_flight ON attempt (key) WHERE state = 'intent';
CREATE TABLE verdict (
    key     TEXT NOT NULL,
    row     TEXT NOT NULL,  -- the row of data that the answer was judged for: its gold answer counts
    gate    TEXT NOT NULL,
    version INTEGER NOT NULL,
    keep    INTEGER NOT NULL,
    reason  TEXT NOT NULL,
    PRIMARY KEY (key, row, gate, version)
) WITHOUT ROWID;
"""


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


class Ledger:
    """Questions and answers in one SQLite file; one process at a time, and in it the thread that opened it.

    An answer stands for ever. A failed call stands as long as this ledger is open (`missing` leaves it out, so that it is data
    to this run), and is asked again by the next process. Every method raises StoreError where the file is full, read-only,
    damaged or in use by another process; what was committed before stays.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise store_error(path, error) from None
        with self._in_our_words():
            self._db = sqlite3.connect(path, isolation_level=None, timeout=1.0)
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
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            with self.transaction():
                if self._pragma("user_version") == 0:
                    self._make_tables()
                settled = self._db.execute("UPDATE attempt SET state = 'orphaned', finished = ? WHERE state = 'intent'", (time.time(),))
                self.orphaned: int = settled.rowcount
            self._opened_after = self._one("SELECT coalesce(max(id), 0) FROM attempt")

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

    def intend(self, keys: Sequence[str], requests: Sequence[Request], model: str) -> None:
        """Write down that these questions are about to be put to `model` (its identity); one transaction."""
        now = time.time()
        with self.transaction(), self._in_our_words():
            self._db.executemany(
                "INSERT OR IGNORE INTO question (key, model, request) VALUES (?, ?, ?)",
                ((key, model, _request_json(request)) for key, request in zip(keys, requests, strict=True)),
            )
            self._db.executemany("INSERT INTO attempt (key, state, started) VALUES (?, 'intent', ?)", ((key, now) for key in keys))

    def record(self, keys: Sequence[str], completions: Sequence[Completion], dollars: Sequence[float | None]) -> None:
        """Write down what came back for questions that were intended; one transaction."""
        now = time.time()
        with self.transaction(), self._in_our_words():
            settled = self._db.executemany(
                "UPDATE attempt SET state = ?, finished = ?, input_tokens = ?, output_tokens = ?, finish_reason = ?, latency_s = ?,"
                " error = ?, text = ?, model = ?, dollars = ? WHERE key = ? AND state = 'intent'",
                ((*_columns(answer, now), price, key) for key, answer, price in zip(keys, completions, dollars, strict=True)),
            )
            assert settled.rowcount == len(keys), "an answer was recorded without an intent"

    def abandon(self, keys: Sequence[str]) -> None:
        """Write down that nobody waits for these calls any more, so that their questions may be asked again; one transaction."""
        now = time.time()
        with self.transaction(), self._in_our_words():
            self._db.executemany(
                "UPDATE attempt SET state = 'orphaned', finished = ? WHERE key = ? AND state = 'intent'", ((now, key) for key in keys)
            )

    def get(self, key: str) -> Completion | None:
        """The answer to a question; where there is none, its last failed call; else None."""
        with self._in_our_words():
            row = self._db.execute(
                "SELECT text, finish_reason, input_tokens, output_tokens, latency_s, model, error FROM attempt"
                " WHERE key = ? AND state IN ('answered', 'failed') ORDER BY state = 'answered' DESC, id DESC LIMIT 1",
                (key,),
            ).fetchone()
        if row is None:
            return None
        text, finish_reason, read, written, latency_s, model, error = row
        return Completion(text, finish_reason, Usage(read, written), latency_s, model, error)

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Those of `keys`, in order, that have neither an answer nor a call that failed since the ledger was opened."""
        settled: set[str] = set()
        for start in range(0, len(keys), _KEYS_A_QUERY):
            some = keys[start : start + _KEYS_A_QUERY]
            marks = ",".join("?" * len(some))
            with self._in_our_words():
                rows = self._db.execute(
                    f"SELECT key FROM attempt WHERE key IN ({marks}) AND (state = 'answered' OR state = 'failed' AND id > ?)",
                    (*some, self._opened_after),
                )
                settled.update(key for (key,) in rows)
        return [key for key in keys if key not in settled]

    def judge(self, verdicts: Iterable[tuple[str, str, Verdict]]) -> None:
        """Write down what gates say: (key of the question, id of the row, verdict); one transaction, the last word counts."""
        with self.transaction(), self._in_our_words():
            self._db.executemany(
                "INSERT OR REPLACE INTO verdict (key, row, gate, version, keep, reason) VALUES (?, ?, ?, ?, ?, ?)",
                ((key, row, said.gate, said.version, said.keep, said.reason) for key, row, said in verdicts),
            )

    def verdicts(self, key: str, row: str) -> list[Verdict]:
        """What gates said of an answer for a row of data, by gate and version."""
        with self._in_our_words():
            found = self._db.execute(
                "SELECT gate, keep, reason, version FROM verdict WHERE key = ? AND row = ? ORDER BY gate, version", (key, row)
            ).fetchall()
        return [Verdict(gate, bool(keep), reason, version) for gate, keep, reason, version in found]

    def dollars(self) -> float | None:
        """Dollars spent in all; None where the price of some call is unknown."""
        with self._in_our_words():
            spent, unpriced = self._db.execute(
                "SELECT total(dollars), total(dollars IS NULL) FROM attempt WHERE state IN ('answered', 'failed')"
            ).fetchone()
        return None if unpriced else float(spent)

    def usage(self) -> Totals:
        """Calls, tokens, dollars and seconds of all attempts, those of earlier processes included."""
        with self._in_our_words():
            counts = dict(self._db.execute("SELECT state, count(*) FROM attempt GROUP BY state"))
            tokens = self._db.execute("SELECT total(input_tokens), total(output_tokens) FROM attempt").fetchone()
            spans = self._db.execute("SELECT started, finished FROM attempt WHERE state IN ('answered', 'failed') ORDER BY started")
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

    def _check_kind(self) -> None:
        version, application = self._pragma("user_version"), self._pragma("application_id")
        empty = self._one("SELECT count(*) FROM sqlite_master") == 0
        if not empty and application != _APPLICATION_ID:
            raise StoreError(f"{self._path}: is an SQLite file of another program, not a ledger; move it away")
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self._path}: was written by a newer Potstill (ledger version {version}; known here: {SCHEMA_VERSION}); update Potstill"
            )

    def _make_tables(self) -> None:
        for statement in _SCHEMA.split(";\n"):
            self._db.execute(statement)
        self._db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _pragma(self, name: str) -> int:
        return self._one(f"PRAGMA {name}")

    def _one(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])

    @contextlib.contextmanager
    def _in_our_words(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.ProgrammingError, sqlite3.IntegrityError):
            raise
        except sqlite3.DatabaseError as error:
            raise ledger_error(self._path, error) from error


_ADVICE = {
    sqlite3.SQLITE_BUSY: "the ledger is in use by another process; wait for it, or give this run another name",
    sqlite3.SQLITE_LOCKED: "the ledger is in use by another process; wait for it, or give this run another name",
    sqlite3.SQLITE_FULL: "the disk is full; free some space and run the same command again: what was answered is kept",
    sqlite3.SQLITE_READONLY: "the ledger may not be written to; check the permissions of the file and of its folder",
    sqlite3.SQLITE_PERM: "the ledger may not be written to; check the permissions of the file and of its folder",
    sqlite3.SQLITE_CANTOPEN: "the ledger cannot be opened; check that its folder is there and may be written to",
    sqlite3.SQLITE_IOERR: "the disk refused to read or write; check its space and health, and run the same command again",
    sqlite3.SQLITE_NOTADB: "is not a ledger (not an SQLite file); move it away, and the questions are asked afresh",
    sqlite3.SQLITE_CORRUPT: "the ledger is damaged; save what can be read with `sqlite3 FILE .recover`, or move it away and ask afresh",
}


def ledger_error(path: Path, error: sqlite3.DatabaseError) -> StoreError:
    """An SQLite error in words that say what to do."""
    primary_code = error.sqlite_errorcode & 0xFF
    return StoreError(f"{path}: {_ADVICE.get(primary_code, str(error))}")


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
    )


def _storable(text: str | None) -> str | None:
    """Text without lone surrogates, which JSON may bring and UTF-8 cannot hold."""
    return text and text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _request_json(request: Request) -> str:
    row = {
        "messages": [message.to_json() for message in request.messages],
        "sampling": dataclasses.asdict(request.sampling),
        "sample": request.sample,
    }
    return json.dumps(row)


def _covered(spans: Iterable[tuple[float, float]]) -> float:
    """Length of the union of spans that come in the order of their starts."""
    seconds, end = 0.0, float("-inf")
    for start, finish in spans:
        seconds += max(0.0, finish - max(start, end))
        end = max(end, finish)
    return seconds

"""The ledger: every question that was put to a model, every attempt at it, every answer, every verdict.

An intent is on disk before a call leaves, and the raw answer before anybody reads it. So after a kill the calls that were in
flight are known: they are settled as orphaned when the ledger is opened again, and are the only ones that are asked again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

from potstill.records import Completion, Cost, Request, Verdict
from potstill.store.ledger_batches import LedgerBatches
from potstill.store.ledger_merge import LedgerMerge
from potstill.store.ledger_rows import ANSWER, answer_columns, completion_of, marks, request_json, request_of
from potstill.store.ledger_sums import LedgerSums

_KEYS_A_QUERY = 1000


class Ledger(LedgerSums, LedgerBatches, LedgerMerge):
    """Questions and answers in one SQLite file; one process at a time, and in it the thread that opened it.

    An answer stands for ever. A failed call stands as long as this ledger is open (`missing` leaves it out, so that it is data
    to this run), and is asked again by the next process. Runs may share a ledger: `run` names whose calls these are, and figures
    are of that run's calls alone (of all, where it is empty). `wait_s` is how long another process may take to let go of the file.

    Where the file cannot be written to (full disk, read-only), it is open for reading, and `read_only` says why. Every method raises
    StoreError where the file is full, read-only, damaged or in use by another process; what was committed before stays.
    """

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
                ((key, model, request_json(request)) for key, request in zip(keys, requests, strict=True)),
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
                " error = ?, text = ?, model = ?, uncertain = ?, fault = ?, reasoning = ?, logprobs = ?, raw = ?, first_token_s = ?,"
                " thinking_tokens = ?, dollars = ?"
                " WHERE key = ? AND state = 'intent'",
                ((*answer_columns(answer, now), price, key) for key, answer, price in zip(keys, completions, dollars, strict=True)),
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
                f"SELECT {ANSWER} FROM attempt WHERE key = ? AND (state = 'answered' OR state = 'failed' AND id > ?)"
                " ORDER BY state = 'answered' DESC, id DESC LIMIT 1",
                (key, self._opened_after if settled else 0),
            ).fetchone()
        return None if row is None else completion_of(row)

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
        query = f"SELECT key, request, {ANSWER} FROM attempt JOIN question USING (key) WHERE state = 'answered' ORDER BY attempt.id"
        with self._in_our_words():
            for key, request, *row in self._db.execute(query):
                yield key, request_of(request), completion_of(row)

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
                rows = self._db.execute(f"SELECT key FROM attempt WHERE key IN ({marks(some)}) AND {condition}", some)
                found.update(key for (key,) in rows)
        return found

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

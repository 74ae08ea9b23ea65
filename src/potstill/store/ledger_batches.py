"""Providers' batches in a ledger: written down before they are handed in, known until everything is collected."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from potstill.records import Cost, Request
from potstill.store.ledger_file import LedgerFile
from potstill.store.ledger_rows import marks, request_of


@dataclass(frozen=True, slots=True)
class Waiting:
    """A question in a provider's batch: the most that it can cost, and whether this ledger's run has asked it."""

    key: str
    request: Request
    most: Cost
    own: bool


class LedgerBatches(LedgerFile):
    """The batches, and the questions that wait in them."""

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
        among = "" if keys is None else f" AND key IN ({marks(keys)})"
        with self._in_our_words():
            rows = self._db.execute(
                f"SELECT key, request, held_tokens, held_dollars, {self._own} FROM attempt JOIN question USING (key)"
                f" WHERE batch = ? AND state = 'intent'{among} ORDER BY attempt.id",
                (batch, *(keys or ())),
            ).fetchall()
        return [Waiting(key, request_of(text), Cost(1, tokens, dollars), bool(own)) for key, text, tokens, dollars, own in rows]

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

"""Ledgers that take over, or lend out, what stands in another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from potstill.errors import StoreError
from potstill.store.ledger_file import LedgerFile
from potstill.store.ledger_schema import APPLICATION_ID, SCHEMA_VERSION

# How an attempt of another ledger is taken over, by column; `theirs` is its row. A second answer to a question counts as a call whose
# answer never came, and that cost what it cost.
_STANDS = "state = 'answered' AND EXISTS (SELECT 1 FROM attempt AS ours WHERE ours.key = theirs.key AND ours.state = 'answered')"
_TAKEN_OVER = {
    "state": f"iif(state = 'intent' OR {_STANDS}, 'orphaned', state)",
    "uncertain": f"state = 'intent' OR uncertain OR {_STANDS}",
    "held_tokens": "iif(state = 'answered' AND NOT uncertain, input_tokens + output_tokens, held_tokens)",
    "held_dollars": "iif(state = 'answered' AND NOT uncertain, dollars, held_dollars)",
}


class LedgerMerge(LedgerFile):
    """Attempts that come from another file, or go there."""

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
        if self._pragma("other.application_id") != APPLICATION_ID or self._pragma("other.user_version") != SCHEMA_VERSION:
            self._db.execute("DETACH DATABASE other")
            raise StoreError(
                f"{other}: is not a ledger of this version (version {SCHEMA_VERSION}); `potstill generate` brings older ones up"
            )

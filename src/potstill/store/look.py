"""A ledger looked at and left as it is: for what is said before a run, and beside it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from potstill.errors import StoreError
from potstill.records import Completion
from potstill.store.ledger import Ledger
from potstill.store.ledger_errors import IN_USE
from potstill.store.ledger_schema import SCHEMA_VERSION


class LedgerView(Ledger):
    """A ledger that is only read: calls that were cut off stay as they are, and no file is made, changed or locked.

    Raises StoreError where the file is damaged, in use by another process, or of another version.
    """

    def __init__(self, path: Path, run: str = "") -> None:
        self.path, self.run, self.orphaned = path, run, 0
        self.read_only = "it is only looked at"
        log, index = (path.with_name(path.name + ending) for ending in ("-wal", "-shm"))
        before = self._state()
        # What a killed process left is in the log; without one, SQLite need not look for it, which would leave files behind.
        how = "mode=ro" if log.exists() and log.stat().st_size else "immutable=1"
        # Nothing is locked then, so whether somebody writes meanwhile is seen by the file alone.
        self._as_found = before if how == "immutable=1" else None
        self._made = None if how == "immutable=1" or index.exists() else index
        with self._in_our_words():
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, isolation_level=None, timeout=0.5)
        try:
            self._check()
        except StoreError:
            self.close()
            raise

    def get(self, key: str, *, settled: bool = False) -> Completion | None:
        """The answer to a question; a call that failed is no answer here, for the next process asks it again."""
        del settled
        return super().get(key, settled=True)

    def close(self) -> None:
        """Let go of the file."""
        self._as_found = None  # what was read was looked after when it was read
        super().close()
        if self._made is not None:
            self._made.unlink(missing_ok=True)  # nobody else uses it: whoever writes to a ledger keeps its index in memory

    @contextlib.contextmanager
    def _in_our_words(self, path: Path | None = None) -> Iterator[None]:
        """Whatever was read while another process wrote to the file, good or bad, is no state that the ledger was ever in."""
        try:
            with super()._in_our_words(path):
                yield
        except StoreError:
            self._require_as_found()
            raise
        self._require_as_found()

    def _require_as_found(self) -> None:
        if self._as_found is not None and self._state() != self._as_found:
            raise StoreError(f"{self.path}: {IN_USE}") from None

    def _state(self) -> tuple[int, int, int] | None:
        """What changes with the file's content; None where there is no file."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _check(self) -> None:
        with self._in_our_words():
            self._check_kind()
            if self._pragma("user_version") != SCHEMA_VERSION:
                raise StoreError(f"{self.path}: is an earlier Potstill's ledger; the next run brings it up to date")
            self._opened_after = self._one("SELECT coalesce(max(id), 0) FROM attempt")

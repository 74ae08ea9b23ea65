"""A ledger's SQLite file: opened by one process at a time, brought up to date, written to whole transactions at a time."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from potstill.errors import StoreError
from potstill.store.atomic import store_error
from potstill.store.ledger_errors import ADVICE, UNWRITABLE, ledger_error, primary_code
from potstill.store.ledger_schema import APPLICATION_ID, SCHEMA_VERSION, make_tables


class LedgerFile:
    """The file, open; what is in it is the business of those who inherit this. See `Ledger`."""

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
                if primary_code(error) not in UNWRITABLE or self._pragma("user_version") != SCHEMA_VERSION:
                    raise
                self.read_only = ADVICE[primary_code(error)]
            self._opened_after = self._one("SELECT coalesce(max(id), 0) FROM attempt")

    def _prepare_to_write(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            make_tables(self._db, self._pragma("user_version"))
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

    def __enter__(self) -> Self:
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

    @property
    def _own(self) -> str:
        name = self.run.replace("'", "''")
        return f"run = '{name}'" if self.run else "1"

    def _check_kind(self) -> None:
        version, application = self._pragma("user_version"), self._pragma("application_id")
        empty = self._one("SELECT count(*) FROM sqlite_master") == 0
        if not empty and application != APPLICATION_ID:
            raise StoreError(f"{self.path}: is an SQLite file of another program, not a ledger; move it away")
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path}: was written by a newer Potstill (ledger version {version}; known here: {SCHEMA_VERSION}); update Potstill"
            )

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

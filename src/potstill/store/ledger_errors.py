"""SQLite's errors in words that say what to do."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from potstill.errors import StoreError

IN_USE = "the ledger is in use by another process; wait for it, or give this run another name"
ADVICE = {
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


UNWRITABLE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR}


def ledger_error(path: Path, error: sqlite3.DatabaseError) -> StoreError:
    """An SQLite error in words that say what to do."""
    return StoreError(f"{path}: {ADVICE.get(primary_code(error), str(error))}")


def primary_code(error: sqlite3.DatabaseError) -> int:
    """SQLite's result code without its details; 0 where Python raised the error itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF

"""Read a data file of any format row by row; what is wrong with a row comes in its place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from potstill.data.jsonl import RawRow, jsonl_rows
from potstill.data.problems import Remarks, shown
from potstill.data.rows import RowProblem, read_row
from potstill.data.tables import csv_rows, parquet_length, parquet_rows
from potstill.errors import DataError
from potstill.records import Example
from potstill.spec.sections import ColumnsSpec

_JSONL = (".jsonl", ".ndjson", ".json")
TABLES = (".csv", ".parquet")
"""Endings of the formats whose rows have columns."""
_FORMATS = (*_JSONL, *TABLES)
_BLOCK = 1 << 20


def scan_rows(path: Path, columns: ColumnsSpec | None = None, conversation: bool = False) -> Iterator[Example | RowProblem]:
    """The rows of a JSONL, CSV or Parquet file in order, one at a time; a row with problems yields these in its place.

    Rows without an id are called `<file's stem>-<line>`. Ids are not compared (`load_dataset` does). Raises DataError where
    the file as a whole cannot be read: missing, a folder, forbidden, of another format, empty, without a needed column.
    """
    for _, found in numbered_rows(path, path.stem, columns or ColumnsSpec(), conversation=conversation):
        if isinstance(found, Example):
            yield found
        else:
            yield from found


def numbered_rows(
    path: Path, split: str, columns: ColumnsSpec, *, conversation: bool, remarks: Remarks | None = None
) -> Iterator[tuple[int, Example | list[RowProblem]]]:
    """Line numbers and rows (`scan_rows`), where rows without an id are called `<split>-<line>`.

    `remarks` gathers what is to be said of acceptable rows.
    """
    place = shown(path)
    remarks = Remarks() if remarks is None else remarks
    for line, raw in _raw_rows(path, columns):
        if isinstance(raw, str):
            found: Example | list[str] = [raw]
        else:
            told: list[str] = []
            found = read_row(raw, name=f"{split}-{line}", conversation=conversation, remarks=told)
            remarks.extend(line, told)
        yield line, found if isinstance(found, Example) else [RowProblem(f"{place}:{line}", text) for text in found]


def check_readable(path: Path) -> None:
    """Raise DataError where `path` is not a file of a known format that can be opened."""
    if path.is_dir():
        raise DataError(f"{shown(path)}: is a folder; name a file in it ({', '.join(_FORMATS)})")
    with _reading(path):
        path.open("rb").close()
    if path.suffix.lower() not in _FORMATS:
        raise DataError(f'{shown(path)}: the ending "{path.suffix}" is not one of {", ".join(_FORMATS)}; rename the file')


def count_lines(path: Path) -> int:
    """How many lines (Parquet: rows) a file has: what progress is measured against."""
    if path.suffix.lower() == ".parquet":
        return parquet_length(path)
    with _reading(path), path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(_BLOCK), b"")) or 1


def _raw_rows(path: Path, columns: ColumnsSpec) -> Iterator[tuple[int, RawRow]]:
    check_readable(path)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        yield from parquet_rows(path, columns)
    elif suffix == ".csv":
        with _reading(path), path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            yield from csv_rows(path, text, columns)
    else:
        with _reading(path), path.open("rb") as file:
            yield from jsonl_rows(path, file)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{shown(path)}: there is no such file; check the path under `data` in the spec") from None
    except PermissionError:
        raise DataError(f"{shown(path)}: may not be read; ask its owner for permission") from None
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be read: {(error.strerror or str(error)).lower()}") from None

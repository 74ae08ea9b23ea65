"""CSV and Parquet: rows with named columns, turned into raw rows of the same keys as JSONL."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from potstill.data.jsonl import MAX_LINE, RawRow
from potstill.data.problems import counted, shown
from potstill.errors import DataError
from potstill.spec.sections import ColumnsSpec

_PARQUET_BATCH = 1_000


def csv_rows(path: Path, file: IO[str], columns: ColumnsSpec) -> Iterator[tuple[int, RawRow]]:
    """Line numbers (of a row's first line) and raw rows; empty cells are absent keys.

    `file` is opened with `errors="surrogateescape"`, so that a byte that is not UTF-8 is found in its own row, not where the
    reader happens to be. Raises DataError where a column is missing, or the file cannot be read on as CSV.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
    reader = csv.reader(file, strict=True)
    header: list[str] = []
    names: dict[str, str] = {}
    blank_from = rows = 0
    line = 1
    try:
        for cells in reader:
            number, line = line, reader.line_num + 1
            if not header:
                header = _header(path, cells)
                names = _columns(path, header, columns)
                continue
            if not any(cells):
                blank_from = blank_from or number
                continue
            if blank_from:
                yield from ((blank, "is blank; remove the line") for blank in range(blank_from, number))
                blank_from = 0
            rows += 1
            yield number, _not_utf8(cells) or _csv_row(cells, header, names)
    except csv.Error as error:
        raise DataError(f"{shown(path)}:{line}: cannot be read on as CSV: {error}; is a quote missing there?") from None
    if not rows:
        raise DataError(f"{shown(path)}: is empty; a line of column names and one row a line are expected")


def _header(path: Path, cells: list[str]) -> list[str]:
    if not any(cell.strip() for cell in cells):
        raise DataError(f"{shown(path)}:1: is blank; the first line holds the names of the columns")
    if fault := _not_utf8(cells):
        raise DataError(f"{shown(path)}:1: {fault}")
    return [cell.strip() for cell in cells]


def _not_utf8(cells: list[str]) -> str | None:
    """What `surrogateescape` let through."""
    strays = [sign for cell in cells if not cell.isascii() for sign in cell if "\udc80" <= sign <= "\udcff"]
    return f"is not UTF-8 (byte 0x{ord(strays[0]) - 0xDC00:02x}); save the file as UTF-8" if strays else None


def _csv_row(cells: list[str], header: list[str], names: dict[str, str]) -> RawRow:
    if len(cells) != len(header):
        return f"has {counted(len(cells), 'cell')}, but there are {counted(len(header), 'column')}"
    values = dict(zip(header, cells, strict=True))
    row: dict[str, Any] = {key: values[column] for key, column in names.items() if values[column].strip() or key == "prompt"}
    if "tags" in row:
        row["tags"] = _split_tags(row["tags"])
    return row


def parquet_rows(path: Path, columns: ColumnsSpec) -> Iterator[tuple[int, RawRow]]:
    """Row numbers (from 1) and raw rows; nulls are absent keys, numbers in text columns become text.

    A table without the prompt column, but with `messages`, is read like JSONL. Raises DataError where pyarrow is not
    installed, the file is not Parquet, or a column is missing.
    """
    pyarrow, parquet = _pyarrow(path)
    try:
        with parquet.ParquetFile(path) as table:
            header = list(table.schema_arrow.names)
            chat = "messages" in header and columns.prompt not in header
            names = {key: key for key in header} if chat else _columns(path, header, columns)
            number = 0
            for batch in table.iter_batches(batch_size=_PARQUET_BATCH, columns=list(names.values())):
                for values in _decoded(batch):
                    number += 1
                    yield number, values if isinstance(values, str) else _parquet_row(values, names)
    except pyarrow.ArrowException as error:
        raise DataError(f"{shown(path)}: cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be read as Parquet: {error}") from None
    if not number:
        raise DataError(f"{shown(path)}: is empty; at least one row is expected")


def _decoded(batch: Any) -> Iterator[dict[str, Any] | str]:
    """The batch's rows; where one holds text that is not UTF-8, that is said in its place."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for row in range(batch.num_rows):
            try:
                yield from batch.slice(row, 1).to_pylist()
            except UnicodeDecodeError as error:
                yield f"holds text that is not UTF-8 (byte 0x{error.object[error.start]:02x}); write the column as UTF-8"


def _pyarrow(path: Path) -> tuple[Any, Any]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise DataError(f"{shown(path)}: reading Parquet needs a package that is missing: `pip install 'potstill[parquet]'`") from None
    return pyarrow, parquet


def parquet_length(path: Path) -> int:
    """How many rows a Parquet file holds; 0 where it cannot be read."""
    pyarrow, parquet = _pyarrow(path)
    try:
        with parquet.ParquetFile(path) as table:
            return int(table.metadata.num_rows)
    except (pyarrow.ArrowException, OSError):
        return 0


def _parquet_row(values: dict[str, Any], names: dict[str, str]) -> RawRow:
    row: dict[str, Any] = {}
    for key, column in names.items():
        value = _written_out(values[column])
        if value is not None or key == "prompt":
            row[key] = _split_tags(value) if key == "tags" and isinstance(value, str) else value
    return row


def _written_out(value: Any) -> Any:
    """Numbers as text, whole ones without a point: a column of whole numbers with gaps is stored as 1.0, 2.0, NaN. NaN is a gap."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _columns(path: Path, header: Sequence[str], columns: ColumnsSpec) -> dict[str, str]:
    """Which column holds which key: those that the spec names, and those that are called like the key."""
    wanted = columns.model_dump()
    missing = [column for column in wanted.values() if column is not None and column not in header]
    if missing:
        names = ", ".join(f'"{column}"' for column in missing)
        there = ", ".join(header) or "none"
        raise DataError(f"{shown(path)}: has no column {names}; its columns: {there}; say under `data.columns` which holds what")
    keys = [*wanted, "reference"]
    found = {key: column for key in keys if (column := wanted.get(key) or key) in header}
    twice = [column for column in found.values() if list(header).count(column) > 1]
    if twice:
        raise DataError(f'{shown(path)}: has the column "{twice[0]}" more than once; rename one')
    return found


def _split_tags(text: str) -> list[str]:
    return [tag.strip() for tag in text.split(",") if tag.strip()]

"""The accepted rows in formats that other programs read: JSONL, OpenAI fine-tuning rows, Parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from potstill.errors import UsageError
from potstill.store.atomic import write_atomic, write_jsonl

Row = dict[str, Any]
_ROWS_A_GROUP = 5_000


def export_rows(rows: Iterable[Row], path: Path, form: str | None = None) -> int:
    """Write rows to `path`, whole or not at all; returns how many. `form` is a name of EXPORTS, by default the path's ending.

    Raises UsageError for a form that is not known, StoreError where the file cannot be written.
    """
    name = form or path.suffix.lstrip(".").lower()
    if name not in EXPORTS:
        raise UsageError(f"{path}: the format {name!r} is not one of {', '.join(EXPORTS)}; name one with --format")
    return EXPORTS[name](rows, path)


def _jsonl(rows: Iterable[Row], path: Path) -> int:
    return write_jsonl(path, iter(rows))


def _openai(rows: Iterable[Row], path: Path) -> int:
    """Turns alone; assistant turns that are not learnt have `weight` 0."""
    return write_jsonl(path, ({"messages": _weighted(row)} for row in rows))


def _weighted(row: Row) -> list[Row]:
    trained = set(row.get("trained_turns", ()))
    return [
        {**turn, "weight": 0} if turn["role"] == "assistant" and trained and place not in trained else turn
        for place, turn in enumerate(row["messages"])
    ]


def _parquet(rows: Iterable[Row], path: Path) -> int:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        raise UsageError(f"{path}: Parquet needs the package pyarrow: pip install 'potstill[parquet]'") from None
    text, texts = pa.string(), pa.list_(pa.string())
    turn = pa.struct([("role", text), ("content", text)])
    fields = [("id", text), ("messages", pa.list_(turn)), ("reference", texts), ("rationale", text), ("group", text), ("tags", texts)]
    fields += [("trained_turns", pa.list_(pa.int32())), ("teacher", text), ("distribution", text), ("rounds", texts), ("source", text)]
    schema = pa.schema(fields)
    count = 0
    with write_atomic(path, "wb") as file, pq.ParquetWriter(file, schema) as writer:
        for group in _groups(rows):
            writer.write_table(pa.Table.from_pylist([_flat(row, schema.names) for row in group], schema))
            count += len(group)
    return count


def _flat(row: Row, names: list[str]) -> Row:
    """The row's fields; the votes, whose keys differ from row to row, as JSON."""
    votes = row.get("distribution")
    return {name: row.get(name) for name in names} | {"distribution": json.dumps(votes) if votes else None}


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    remaining = iter(rows)
    while group := list(islice(remaining, _ROWS_A_GROUP)):
        yield group


EXPORTS: dict[str, Callable[[Iterable[Row], Path], int]] = {"jsonl": _jsonl, "openai": _openai, "parquet": _parquet}

"""Lines of JSON, read one at a time: whatever is wrong with a line is said of that line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from potstill.data.problems import shown
from potstill.data.rows import kind, quote
from potstill.errors import DataError

MAX_LINE = 10 * 1024 * 1024
"""Longest line in bytes: longer ones are a file without line ends, not a row."""

_UTF8_BOM = b"\xef\xbb\xbf"
_FOREIGN_STARTS = {
    b"\xff\xfe": "is UTF-16; save it as UTF-8",
    b"\xfe\xff": "is UTF-16; save it as UTF-8",
    b"\x1f\x8b": "is compressed by gzip; unpack it first (`gunzip`)",
    b"PAR1": "is a Parquet file; give it the ending .parquet",
    b"PK": "is a zip archive; unpack it first",
}

RawRow = dict[str, Any] | str
"""A row as it was found, or what is wrong with it."""


def jsonl_rows(path: Path, file: IO[bytes]) -> Iterator[tuple[int, RawRow]]:
    """Line numbers and objects; blank lines at the end are passed over.

    Raises DataError where the whole file is of another kind, or holds no row.
    """
    blank_from = number = rows = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if number == 1:
            _check_start(path, line)
            line = line.removeprefix(_UTF8_BOM)
        text = line.strip()
        if not text:
            blank_from = blank_from or number
            continue
        if blank_from:
            yield from ((blank, "is blank; remove the line") for blank in range(blank_from, number))
            blank_from = 0
        if not rows:
            _check_layout(path, text)
        rows += 1
        if len(line) > MAX_LINE:
            _skip_line(file, line)
            yield number, "is longer than 10 MB; one row is one line: is a line end missing?"
        else:
            yield number, _object(text)
    if not rows:
        raise DataError(f"{shown(path)}: is empty; one row a line is expected")


def _check_start(path: Path, line: bytes) -> None:
    for start, what in _FOREIGN_STARTS.items():
        if line.startswith(start):
            raise DataError(f"{shown(path)}: {what}")


def _check_layout(path: Path, text: bytes) -> None:
    if text.startswith(b"["):
        raise DataError(f"{shown(path)}: starts with a JSON list; one object a line is expected: `jq -c '.[]' {path.name} > rows.jsonl`")
    if text == b"{":
        raise DataError(f"{shown(path)}: is JSON over several lines; one object a line is expected: `jq -c . {path.name} > rows.jsonl`")


def _skip_line(file: IO[bytes], line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = file.readline(MAX_LINE)


class _RepeatedKeyError(ValueError):
    """One key stands twice in an object: Python would take the last one and say nothing."""


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _RepeatedKeyError(next(key for place, (key, _) in enumerate(pairs) if key in dict(pairs[:place])))
    return found


def _object(line: bytes) -> RawRow:
    if b"\0" in line:
        return "holds NUL bytes; was the file cut off by a crash, or is it UTF-16? save it as UTF-8"
    try:
        value = json.loads(line.decode(), object_pairs_hook=_unique_keys)
    except UnicodeDecodeError as error:
        return f"is not UTF-8 (byte 0x{line[error.start]:02x} at column {error.start + 1}); save the file as UTF-8"
    except json.JSONDecodeError as error:
        return f"is not JSON: {error.msg} at column {error.colno}; mend the line, or take it out"
    except _RepeatedKeyError as error:
        return f"has the key {quote(error.args[0])} twice; keep one"
    except ValueError as error:
        return f"is not JSON: {error}"
    except RecursionError:
        return "is not a row: it is nested too deeply"
    if not isinstance(value, dict):
        return f'is {kind(value)}, must be an object like {{"messages": [...]}}'
    return value

"""Whom people preferred, student or teacher, as a file says it: what a judge is held against. No numpy here: `check` reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill.errors import DataError

PREFERRED = ("student", "tie", "teacher")
_KEYS = ("id", "preferred", "student", "teacher")
_LOOKS = 'a line is {"id": "a test question\'s", "preferred": "student", "teacher" or "tie"}'


@dataclass(frozen=True, slots=True)
class Preference:
    """A person's word on one question: who is `preferred`, and, where the file says it, which answers were `seen`, by system."""

    preferred: str
    seen: Mapping[str, str]


def read_preferences(path: Path) -> dict[str, Preference]:
    """What people preferred, by the question's id. Raises DataError where the file cannot be read, or one of its lines is none."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DataError(f"{path}: cannot be read ({reason}); `evaluation.judge.human` names a JSONL file, and {_LOOKS}") from None
    found: dict[str, Preference] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        row = _row(where, line)
        if row["id"] in found:
            raise DataError(f'{where}: "{row["id"]}" stands there twice; keep one line for each question')
        found[row["id"]] = Preference(row["preferred"], {key: row[key] for key in ("student", "teacher") if key in row})
    if not found:
        raise DataError(f"{path}: is empty; {_LOOKS}")
    return found


def _row(where: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: is no JSON ({error}); {_LOOKS}") from None
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise DataError(f"{where}: has no `id` that is a text; {_LOOKS}")
    if row.get("preferred") not in PREFERRED:
        raise DataError(f"{where}: `preferred` is {json.dumps(row.get('preferred'))}, not one of {', '.join(PREFERRED)}")
    if strange := [key for key, value in row.items() if key not in _KEYS or not isinstance(value, str)]:
        raise DataError(f"{where}: `{strange[0]}` is no text, or none of {', '.join(_KEYS)} (the last two are the answers that were seen)")
    return row

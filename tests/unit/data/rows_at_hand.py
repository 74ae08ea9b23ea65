"""Rows, files and specs for the tests of the data package."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path

from potstill.spec import RunSpec, spec_from_dict

WORDS = [f"{first}{vowel}{last}" for first in "bdfgklmnprst" for vowel in "aeiou" for last in "bdfgklmnprst"]


def chat(text: str, **more: object) -> dict[str, object]:
    """A row with one user turn."""
    return {"messages": [{"role": "user", "content": text}], **more}


def sentences(count: int, seed: int = 0, words: int = 20) -> list[str]:
    """Random texts that have hardly a shingle in common."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=words)) for _ in range(count)]


def write_jsonl(path: Path, rows: Iterable[object]) -> Path:
    """One JSON value a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def spec_for(folder: Path, data: Mapping[str, object], task: Mapping[str, object] | None = None, **more: object) -> RunSpec:
    """A spec whose data section is `data`."""
    raw = {
        "name": "test",
        "task": dict(task or {"type": "summarization"}),
        "data": {key: str(value) if isinstance(value, Path) else value for key, value in data.items()},
        "teacher": {"model": "echo"},
        "student": {"model": "some/model"},
        **more,
    }
    return spec_from_dict(raw, folder)

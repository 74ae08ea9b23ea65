"""What a finished training left: its figures, and which weights they are of."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from potstill.models.folder import identity, weight_files
from potstill.store.atomic import read_json, write_json

_SUMMARY, _BEST = "summary.json", "best"


def write_summary(folder: Path, figures: dict[str, Any]) -> dict[str, Any]:
    """Write `summary.json` beside `best/`, with the hash of what that holds (`weights`); returns what was written."""
    summary = {**figures, "weights": identity(folder / _BEST)}
    write_json(folder / _SUMMARY, summary)
    return summary


def read_summary(folder: Path) -> dict[str, Any] | None:
    """The summary of a training that is done and whose student is as training left it; None where there is none.

    A student that was changed or removed since goes together with its summary, so that it is trained anew.
    """
    path = folder / _SUMMARY
    if not path.exists():
        return None
    summary: dict[str, Any] = read_json(path)
    if summary.get("weights") == identity(folder / _BEST):
        return summary
    shutil.rmtree(folder / _BEST, ignore_errors=True)
    path.unlink()
    return None


def model_files(folder: Path) -> list[Path]:
    """Every file of a model folder, those that it cannot do without whether they stand there or not."""
    index = folder / "model.safetensors.index.json"
    weights = weight_files(folder) if index.is_file() else [folder / "model.safetensors"]
    needed = {folder / "config.json", folder / "tokenizer_config.json", *weights}
    return sorted(needed | {path for path in folder.rglob("*") if path.is_file()})


def student_files(folder: Path) -> list[Path]:
    """What a finished training leaves in its folder for others to read."""
    return [*model_files(folder / _BEST), folder / "metrics.jsonl", folder / _SUMMARY]

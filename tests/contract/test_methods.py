"""docs/methods.md knows every loss, target and method, and every file that it names is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from potstill.spec.sections import TargetsSpec, TrainingSpec

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
NAMES = {
    name
    for section, field in ((TrainingSpec, "divergence"), (TrainingSpec, "objective"), (TargetsSpec, "kind"))
    for name in get_args(section.model_fields[field].annotation)
} - {"auto"}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_method_is_described(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_every_file_that_is_named_is_there() -> None:
    named = set(re.findall(r"`(training/[a-z_/]+(?:\.py)?)`", PAGE))
    assert len(named) > 20
    assert [path for path in sorted(named) if not (ROOT / "src/potstill" / path).exists()] == []


def test_every_loss_has_its_file_named() -> None:
    losses = {path.name for path in (ROOT / "src/potstill/training/losses").glob("*.py")} - {"__init__.py"}
    assert [name for name in sorted(losses) if f"training/losses/{name}" not in PAGE] == []

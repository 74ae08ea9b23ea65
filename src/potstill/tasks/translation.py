"""Translations."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.spec.sections import TaskSpec
from potstill.tasks.base import SingleTurn


def translation(spec: TaskSpec, labels: Sequence[str]) -> SingleTurn:
    """The translation task."""
    del labels
    return SingleTurn(
        type=spec.type,
        metrics=("chrf", "bleu"),
        agreement="chrf",
        max_new_tokens=spec.max_new_tokens or 512,
        instruction=spec.instruction,
    )

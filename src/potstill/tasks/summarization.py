"""Summaries."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.spec.sections import TaskSpec
from potstill.tasks.base import SingleTurn


def summarization(spec: TaskSpec, labels: Sequence[str]) -> SingleTurn:
    """The summarization task."""
    del labels
    return SingleTurn(
        type=spec.type,
        metrics=("rouge_l", "rouge_1", "rouge_2"),
        agreement="rouge_l",
        max_new_tokens=spec.max_new_tokens or 256,
        instruction=spec.instruction,
    )

"""Accuracy: the answer is an acceptable one."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.tasks.metrics.base import Mean


def accuracy(labels: Sequence[str] = ()) -> Mean:
    """Share of answers that equal a reference, letter case and runs of white space aside."""
    del labels  # answers are compared as they are, whatever the set
    return Mean("accuracy", "Accuracy", _same)


def _same(answer: str, reference: str) -> float:
    return float(_normal(answer) == _normal(reference))


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())

"""Which answers are one answer in other words."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from potstill.tasks.base import Task
from potstill.tasks.metrics.math_value import same_value

T = TypeVar("T")
CLOSED = frozenset({"accuracy", "math_accuracy"})
"""Tasks that compare answers so have a normal form that says all: a label, a letter, a value."""


def is_closed(task: Task) -> bool:
    """Whether an answer's normal form is the whole answer."""
    return task.agreement in CLOSED


def same_answer(task: Task) -> Callable[[str, str], bool]:
    """Whether two parsed answers are one: by value in sums, else letter by letter."""
    if task.agreement == "math_accuracy":
        return lambda one, other: one == other or same_value(one, other) is True
    return str.__eq__


def grouped(items: Iterable[T], same: Callable[[T, T], bool]) -> list[list[T]]:
    """Items with those that are the same as the first of their group, groups in the order of their first."""
    groups: list[list[T]] = []
    for item in items:
        group = next((group for group in groups if same(group[0], item)), None)
        if group is None:
            groups.append([item])
        else:
            group.append(item)
    return groups

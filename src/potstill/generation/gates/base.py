"""What a gate sees, and what it is: a function that says keep or drop, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from potstill.records import Completion, Example, Message, Verdict
from potstill.tasks.base import Task


@dataclass(frozen=True, slots=True)
class GateContext:
    """One answer at the gates: the row it is for, what was asked (`messages`), and what came back;
    where several samples voted, the answer's share of them; where a judge marked it, its mark from 0 to 1."""

    example: Example
    task: Task
    messages: tuple[Message, ...]
    completion: Completion
    agreement: float | None = None
    mark: float | None = None


Gate = Callable[[GateContext], Verdict]

"""What a gate sees, and what it is: a function that says keep or drop, and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from potstill.data.contamination import HeldOut
from potstill.data.earlier import EarlierRows
from potstill.records import Completion, Example, Message, Verdict
from potstill.spec.sections import GatesSpec
from potstill.tasks.base import Task

Scope = Literal["answer", "row"]
"""`answer`: judged as soon as it came. `row`: judged when the rows are collected, in their order, because other rows or answers count."""

UNSCORED = "unscored"
"""The code of a row that is kept because nothing was there to judge it by."""


@dataclass(frozen=True, slots=True)
class GateContext:
    """One answer at the gates: the row it is for, what was asked (`messages`), and what came back.

    For gates of a row, `messages` are those before its last answer, earlier answers among them, and `completion` is that answer. Of
    the rest each is for the gate that needs it: `schema`, a JSON Schema as text, that the answer was asked to obey; `agreement`, its
    share of the votes; `mark`, the judge's; `held_out`, hashes of the rows that must not be given away; `validation`, whether this is a
    validation row, which is compared with test rows alone; `earlier`, the rows that were kept so far. `gates` are the spec's settings;
    `pass_gates` fills them in.
    """

    example: Example
    task: Task
    messages: tuple[Message, ...]
    completion: Completion
    schema: str | None = None
    agreement: float | None = None
    mark: float | None = None
    held_out: HeldOut | None = None
    validation: bool = False
    earlier: EarlierRows | None = None
    gates: GatesSpec = field(default_factory=GatesSpec)

    @property
    def questions(self) -> str:
        """What the user says."""
        return "\n".join(message.content for message in self.messages if message.role == "user")

    @property
    def answers(self) -> str:
        """What the assistant says, this answer last."""
        return "\n".join([*(message.content for message in self.messages if message.role == "assistant"), self.completion.text])


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate in the list of gates: what judges, and when."""

    judge: Callable[[GateContext], Verdict]
    scope: Scope = "answer"


def is_json(text: str) -> bool:
    """Whether a text is JSON, and nothing else."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True

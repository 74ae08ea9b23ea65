"""What a task is: four small functions, and the metrics that fit it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from potstill.records import Example, Message


class Task(Protocol):
    """How a kind of work is asked, read, checked and scored.

    `metrics` names the metrics that fit, the primary one first: it chooses checkpoints. `max_new_tokens` is the longest
    answer where the spec gives none.
    """

    type: str
    metrics: tuple[str, ...]
    max_new_tokens: int

    def render(self, example: Example, replies: Sequence[str] = ()) -> tuple[Message, ...] | None:
        """The messages to ask, after `replies` were given to the turns before; None when nothing is left to ask."""
        ...

    def parse(self, text: str) -> str | None:
        """The answer in a reply, in its normal form; None where there is none."""
        ...

    def verify(self, example: Example, text: str) -> str | None:
        """Why this reply is provably not acceptable as a label; None where nothing speaks against it."""
        ...

    def expand(self, example: Example) -> list[Example]:
        """The questions that a row is scored on: itself, or one a turn of a conversation, each with its history and reference."""
        ...

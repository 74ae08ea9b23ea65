"""A task whose answers come after reasons, on a last line `Answer: ...`: what a student that learnt to reason writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from potstill.records import Example, Message
from potstill.tasks.base import Task
from potstill.tasks.replies import split_reasons

REASONING_TOKENS = 256
"""Room for the reasons, besides the answer's own."""


@dataclass(frozen=True)
class AfterReasons:
    """`inner`, with replies read from their last `Answer:` on; a reply without one is read as a whole."""

    inner: Task
    max_new_tokens: int

    @property
    def type(self) -> str:
        """The inner task's."""
        return self.inner.type

    @property
    def metrics(self) -> tuple[str, ...]:
        """The inner task's."""
        return self.inner.metrics

    @property
    def agreement(self) -> str:
        """The inner task's."""
        return self.inner.agreement

    def render(self, example: Example, replies: Sequence[str] = ()) -> tuple[Message, ...] | None:
        """As the inner task does."""
        return self.inner.render(example, replies)

    def parse(self, text: str) -> str | None:
        """The answer after the reasons."""
        return self.inner.parse(split_reasons(text)[1])

    def verify(self, example: Example, text: str) -> str | None:
        """What speaks against the answer after the reasons."""
        return self.inner.verify(example, split_reasons(text)[1])

    def expand(self, example: Example) -> list[Example]:
        """As the inner task does."""
        return self.inner.expand(example)

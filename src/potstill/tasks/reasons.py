"""A task whose answers come after reasons, on a last line `Answer: ...`: what a student that learnt to reason writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from potstill.records import Example, Message
from potstill.tasks.base import Task
from potstill.tasks.replies import split_reasons


@dataclass(frozen=True)
class AfterReasons:
    """`inner`, with replies read from their last `Answer:` on; a reply without one is read as a whole."""

    inner: Task
    reasoning_tokens: int
    """Room for the reasons, besides the answer's own."""

    @property
    def max_new_tokens(self) -> int:
        """Room for the reasons and the inner task's answer."""
        return self.inner.max_new_tokens + self.reasoning_tokens

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

    @property
    def schema(self) -> str | None:
        """None: reasons are no JSON."""
        return None

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


def answer_tokens(task: Task) -> int:
    """Room for the answer alone: what a teacher is given, to which its strategy adds room for the reasons."""
    return task.inner.max_new_tokens if isinstance(task, AfterReasons) else task.max_new_tokens

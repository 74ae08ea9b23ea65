"""A task whose answers come after reasons, on a last line `Answer: ...`: what a student that learnt to reason writes."""

from __future__ import annotations

from dataclasses import dataclass

from potstill.records import Example
from potstill.tasks.around import Around
from potstill.tasks.base import Task
from potstill.tasks.replies import split_reasons


@dataclass(frozen=True)
class AfterReasons(Around):
    """`inner`, with replies read from their last `Answer:` on; a reply without one is read as a whole."""

    reasoning_tokens: int
    """Room for the reasons, besides the answer's own."""

    @property
    def max_new_tokens(self) -> int:
        """Room for the reasons and the inner task's answer."""
        return self.inner.max_new_tokens + self.reasoning_tokens

    def parse(self, text: str) -> str | None:
        """The answer after the reasons."""
        return self.inner.parse(split_reasons(text)[1])

    def verify(self, example: Example, text: str) -> str | None:
        """What speaks against the answer after the reasons."""
        return self.inner.verify(example, split_reasons(text)[1])


def answer_tokens(task: Task) -> int:
    """Room for the answer alone: what a teacher is given, to which its strategy adds room for the reasons."""
    return task.inner.max_new_tokens if isinstance(task, AfterReasons) else task.max_new_tokens

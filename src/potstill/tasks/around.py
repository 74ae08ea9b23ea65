"""A task around another, which reads replies otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from potstill.records import Example, Message
from potstill.tasks.base import Task


@dataclass(frozen=True)
class Around:
    """`inner`, in all that a subclass does not say otherwise."""

    inner: Task

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
    def max_new_tokens(self) -> int:
        """The inner task's."""
        return self.inner.max_new_tokens

    @property
    def schema(self) -> str | None:
        """The inner task's."""
        return self.inner.schema

    def render(self, example: Example, replies: Sequence[str] = ()) -> tuple[Message, ...] | None:
        """As the inner task does."""
        return self.inner.render(example, replies)

    def parse(self, text: str) -> str | None:
        """As the inner task does."""
        return self.inner.parse(text)

    def verify(self, example: Example, text: str) -> str | None:
        """As the inner task does."""
        return self.inner.verify(example, text)

    def options(self, example: Example) -> tuple[str, ...]:
        """As the inner task has."""
        return self.inner.options(example)

    def expand(self, example: Example) -> list[Example]:
        """As the inner task does."""
        return self.inner.expand(example)

"""What a task is: four small functions, and the metrics that fit it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from potstill.records import Example, Message
from potstill.tasks.replies import answer_part


class Task(Protocol):
    """How a kind of work is asked, read, checked and scored."""

    @property
    def type(self) -> str:
        """The spec's name of it."""
        ...

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that fit, the primary one first: it chooses checkpoints."""
        ...

    @property
    def agreement(self) -> str:
        """The metric that compares a student's answers with its teacher's, which stand as references."""
        ...

    @property
    def max_new_tokens(self) -> int:
        """The longest answer: the spec's, else the type's own."""
        ...

    @property
    def schema(self) -> str | None:
        """A JSON Schema, as canonical JSON text, that answers obey; None where they are free."""
        ...

    def render(self, example: Example, replies: Sequence[str] = ()) -> tuple[Message, ...] | None:
        """The messages to ask, after `replies` were given to the turns before; None when nothing is left to ask.

        A question that `expand` made is asked as it is, its history included.
        """
        ...

    def parse(self, text: str) -> str | None:
        """The answer in a reply, in its normal form; None where there is none."""
        ...

    def verify(self, example: Example, text: str) -> str | None:
        """Why this reply is provably not acceptable as a label; None where nothing speaks against it."""
        ...

    def options(self, example: Example) -> tuple[str, ...]:
        """All answers that a question may have, in normal form; empty where answers are free, or not known."""
        ...

    def expand(self, example: Example) -> list[Example]:
        """The questions that a row is scored on, references in normal form: itself, or one a turn of a conversation with its history."""
        ...


@dataclass(frozen=True)
class SingleTurn:
    """A task of one question and one answer, which is free text: the base of the others."""

    type: str
    metrics: tuple[str, ...]
    agreement: str
    max_new_tokens: int
    instruction: str | None = None

    @property
    def schema(self) -> str | None:
        """None: `tasks.schema.HeldToSchema` is a task with one."""
        return None

    def render(self, example: Example, replies: Sequence[str] = ()) -> tuple[Message, ...] | None:
        """The row's messages, the instruction in front where they bring no system prompt; None once one reply is there."""
        return None if replies else instructed(example.messages, self.instruction)

    def parse(self, text: str) -> str | None:
        """The text without reasoning in `<think>` tags and outer white space."""
        return answer_part(text) or None

    def verify(self, example: Example, text: str) -> str | None:
        """Free text is never provably wrong."""
        del example, text
        return None

    def options(self, example: Example) -> tuple[str, ...]:
        """Free text has none."""
        del example
        return ()

    def expand(self, example: Example) -> list[Example]:
        """The row itself. A reference that cannot be parsed stays as it is."""
        return [replace(example, reference=tuple(self.parse(gold) or gold for gold in example.reference))]


def instructed(messages: tuple[Message, ...], instruction: str | None) -> tuple[Message, ...]:
    """`messages` with `instruction` as system prompt in front, unless they bring one or there is none."""
    if instruction is None or any(message.role == "system" for message in messages):
        return messages
    return (Message("system", instruction), *messages)

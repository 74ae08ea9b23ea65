"""Conversations of several rounds: the history holds the model's own earlier replies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

from potstill.records import Example, Message
from potstill.spec.sections import TaskSpec
from potstill.tasks.base import SingleTurn, instructed


@dataclass(frozen=True, slots=True)
class Question(Example):
    """One turn of a conversation. Its history is given, so that every system is asked after the same words."""


@dataclass(frozen=True)
class Conversation(SingleTurn):
    """Answer each user turn. A question is asked where a user turn is answered in the row, or ends it."""

    def render(self, example: Example, replies: Sequence[str] = ()) -> tuple[Message, ...] | None:
        """The history up to the next question, `replies` in the place of the row's own assistant turns; None after the last.

        The row's answers to user turns are never shown. An assistant's greeting before the first user turn is.
        """
        if isinstance(example, Question):
            return super().render(example, replies)
        turns = _answered_turns(example.messages)
        asked = [*turns, len(example.messages)] if example.messages[-1].role == "user" else turns
        if len(replies) >= len(asked):
            return None
        history = list(example.messages[: asked[len(replies)]])
        for turn, reply in zip(turns, replies, strict=False):
            history[turn] = Message("assistant", reply)
        return instructed(tuple(history), self.instruction)

    def expand(self, example: Example) -> list[Example]:
        """One question an answered turn, `<id>#1` onwards: the row's own turns are its history, and that turn its reference.

        A row that ends with a user turn has one question more, with the row's own reference. All are of one group.
        """
        if isinstance(example, Question):
            return [example]
        turns = _answered_turns(example.messages)
        questions = [
            self._question(example, number, turn, (example.messages[turn].content.strip(),)) for number, turn in enumerate(turns, start=1)
        ]
        if example.messages[-1].role == "user":
            gold = tuple(self.parse(text) or text for text in example.reference)
            questions.append(self._question(example, len(turns) + 1, len(example.messages), gold))
        return questions

    def _question(self, example: Example, number: int, end: int, reference: tuple[str, ...]) -> Example:
        kept = {field.name: getattr(example, field.name) for field in fields(Example)}
        kept |= {"id": f"{example.id}#{number}", "group": example.group or example.id, "trained_turns": ()}
        return Question(**kept | {"messages": example.messages[:end], "reference": reference})


def conversation(spec: TaskSpec, labels: Sequence[str]) -> SingleTurn:
    """The conversation task."""
    del labels
    return Conversation(
        type=spec.type,
        metrics=("rouge_l", "chrf", "bleu"),
        agreement="rouge_l",
        max_new_tokens=spec.max_new_tokens or 512,
        instruction=spec.instruction,
    )


def _answered_turns(messages: Sequence[Message]) -> list[int]:
    """Positions of the assistant turns that answer a user turn."""
    return [turn for turn, (before, here) in enumerate(pairwise(messages), start=1) if before.role == "user" and here.role == "assistant"]

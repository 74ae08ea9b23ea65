"""A row's questions as a generator: it yields steps of questions, is sent their answers, and returns what came of the row.

What is asked next follows from the answers before, and from nothing else. So a row can be taken up at any time by running its
generator over what the ledger holds, and nothing but the ledger has to be remembered.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from potstill.models.base import Model
from potstill.records import Completion, Message, Request, Sampling


@dataclass(frozen=True, eq=False)
class Seat:
    """One model of the panel, and how it is asked: a teacher, or the judge."""

    title: str
    model: Model
    sampling: Sampling
    weight: float = 1.0
    tags: tuple[str, ...] = ()
    top_logprobs: int = 0
    """So many of the likeliest tokens are asked for at each place of an answer."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to one model."""

    seat: Seat
    request: Request


@dataclass(frozen=True, slots=True)
class Answered:
    """The answer to a question, and its key in the ledger."""

    ask: Ask
    key: str
    completion: Completion


@dataclass(frozen=True, slots=True)
class Step:
    """Questions that may be asked together. `last` says that nothing is asked after them, whatever the answers are."""

    asks: tuple[Ask, ...]
    last: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What a teacher said in the end: the `answer` alone, the reasons before it, the rounds that led there."""

    seat: Seat
    key: str
    completion: Completion
    """Its text is the answer."""
    messages: tuple[Message, ...]
    """What was asked last."""
    rationale: str | None = None
    rounds: tuple[str, ...] = ()
    reasoned: bool = False
    """Reasons were asked for, so the answer proper may be less than the text."""
    told_apart: bool = True
    """False where reasons were asked for and nothing shows where they end."""

    @property
    def answer(self) -> str:
        """The answer as it may be learnt."""
        return self.completion.text


T = TypeVar("T")
Talk = Generator[Step, Sequence[Answered], T]


def together(talks: Sequence[Talk[T]], *, last: bool) -> Talk[list[T]]:
    """Several talks at once, a step of each at a time; what they return, in order. `last`: nothing is asked after they end."""
    results: list[T | None] = [None] * len(talks)
    steps: dict[int, Step] = {}
    for place, talk in enumerate(talks):
        _advance(place, talk, None, steps, results)
    while steps:
        asks = tuple(ask for step in steps.values() for ask in step.asks)
        answers = iter((yield Step(asks, last and all(step.last for step in steps.values()))))
        current, steps = steps, {}
        for place, step in current.items():
            _advance(place, talks[place], [next(answers) for _ in step.asks], steps, results)
    return results  # type: ignore[return-value]  # all have returned


def _advance(place: int, talk: Talk[T], answers: Sequence[Answered] | None, steps: dict[int, Step], results: list[T | None]) -> None:
    try:
        steps[place] = next(talk) if answers is None else talk.send(answers)
    except StopIteration as end:
        results[place] = end.value

"""What is asked together, the call that it goes out in, and what that used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from potstill.models.base import Remote
from potstill.models.budget import is_told
from potstill.models.questions import Question
from potstill.models.throttle import Ticket
from potstill.records import Completion, Cost


@dataclass(slots=True)
class Part:
    """Questions that go into one call, those that are left of them, and how often they failed.

    `attempts` count against the questions; `failures` are all that the endpoint gave, those while it failed for others included.
    """

    left: Sequence[Question]
    attempts: int = 0
    failures: int = 0

    @property
    def tries(self) -> int:
        """How often it was tried, as a failure tells it."""
        return max(self.attempts, self.failures)


@dataclass(frozen=True, slots=True)
class Call:
    """One call that came back: its questions, what came, what was held for each, and how it was admitted."""

    batch: Sequence[Question]
    completions: Sequence[Completion]
    holds: Sequence[Cost]
    ticket: Ticket | None


def used_tokens(call: Call, model: Remote) -> int:
    """The tokens that a call counts with at its endpoint: those it told, or about as many as it uses (not the most that it may)."""
    return sum(
        completion.usage.input_tokens + completion.usage.output_tokens if is_told(completion) else model.likely(question.request)
        for question, completion in zip(call.batch, call.completions, strict=True)
    )


def after(attempts: int) -> str:
    """How a failure begins that was tried for so often."""
    return f"after {attempts} attempt{'s' if attempts > 1 else ''}: "

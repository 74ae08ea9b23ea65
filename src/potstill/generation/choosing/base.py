"""What choosing sees, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from potstill.generation.candidate import Candidate
from potstill.models.talk import Answered, Seat
from potstill.records import Example, Message
from potstill.tasks.base import Task


@dataclass(frozen=True, slots=True)
class Situation:
    """One turn of a row: what was asked in the user's own words, for which task, and who may judge."""

    example: Example
    task: Task
    messages: tuple[Message, ...]
    judges: tuple[Seat, ...] = ()
    """Those who may judge, the most wanted first."""

    def judge_of(self, *answers: Candidate) -> Seat:
        """The first judge that wrote none of these answers, for models favour their own; the first of all where each wrote one."""
        authors = {answer.reply.seat.model.identity for answer in answers}
        strangers = (seat for seat in self.judges if seat.model.identity not in authors)
        return next(strangers, self.judges[0])


@dataclass(frozen=True, slots=True)
class Chosen:
    """The answers that are learnt, the best first; the share of each parsed answer among all samples, or in a judge's eyes, where such
    shares are known, the first answer's first.

    `agreement` is the first one's share, `judged` what a judge said on the way.
    """

    candidates: tuple[Candidate, ...]
    distribution: tuple[tuple[str, float], ...] = ()
    agreement: float | None = None
    judged: tuple[Answered, ...] = ()


def kept(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that no gate dropped, in order."""
    return [candidate for candidate in candidates if candidate.kept]

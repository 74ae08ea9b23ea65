"""What choosing sees, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from potstill.generation.candidate import Candidate
from potstill.generation.talk import Seat
from potstill.records import Example, Message
from potstill.tasks.base import Task


@dataclass(frozen=True, slots=True)
class Situation:
    """One turn of a row: what was asked in the user's own words, for which task, and who may judge."""

    example: Example
    task: Task
    messages: tuple[Message, ...]
    judge: Seat | None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The answers that are learnt, the best first; the share of each parsed answer among all samples, where they were counted.

    `agreement` is the first one's share.
    """

    candidates: tuple[Candidate, ...]
    distribution: tuple[tuple[str, float], ...] = ()
    agreement: float | None = None


def kept(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that no gate dropped, in order."""
    return [candidate for candidate in candidates if candidate.kept]

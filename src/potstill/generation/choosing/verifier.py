"""The first answer that the task proves right, or cannot prove wrong."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.generation.candidate import Candidate
from potstill.generation.choosing.base import Chosen, Situation, kept
from potstill.models.talk import Talk


def verifier(situation: Situation, candidates: Sequence[Candidate]) -> Talk[Chosen]:
    """The first kept answer against which `task.verify` has nothing to say; whether the gate of that name is on or not."""
    right = (candidate for candidate in kept(candidates) if situation.task.verify(situation.example, candidate.text) is None)
    found = next(right, None)
    return Chosen((found,) if found is not None else ())
    yield  # a talk without questions

"""The first answer that the gates keep."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.generation.candidate import Candidate
from potstill.generation.choosing.base import Chosen, Situation, kept
from potstill.models.talk import Talk


def first(situation: Situation, candidates: Sequence[Candidate]) -> Talk[Chosen]:
    """The first that is kept; none where none is."""
    del situation
    return Chosen(tuple(kept(candidates)[:1]))
    yield  # a talk without questions

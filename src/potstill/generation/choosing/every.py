"""Every answer that the gates keep: a row each."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.generation.candidate import Candidate
from potstill.generation.choosing.base import Chosen, Situation, kept
from potstill.generation.talk import Talk


def every(situation: Situation, candidates: Sequence[Candidate]) -> Talk[Chosen]:
    """All that are kept; of equal answers the first."""
    del situation
    distinct = {candidate.text.strip(): candidate for candidate in reversed(kept(candidates))}
    return Chosen(tuple(candidate for candidate in kept(candidates) if distinct[candidate.text.strip()] is candidate))
    yield  # a talk without questions

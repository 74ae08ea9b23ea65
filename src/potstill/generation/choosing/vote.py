"""The answer that most samples agree on (self-consistency: Wang et al. 2022, arXiv 2203.11171)."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.generation.candidate import Candidate
from potstill.generation.choosing.base import Chosen, Situation, kept
from potstill.generation.choosing.likeness import grouped, same_answer
from potstill.models.talk import Talk


def vote(situation: Situation, candidates: Sequence[Candidate]) -> Talk[Chosen]:
    """The first of the answers that most samples gave, as the task compares answers; on a tie, the earlier one.

    Shares are of all samples that were asked for: those without a parsed answer, and those that a gate dropped, agree with nobody.
    """
    parsed = ((situation.task.parse(candidate.text), candidate) for candidate in kept(candidates))
    votes = [(answer, candidate) for answer, candidate in parsed if answer is not None]
    same = same_answer(situation.task)
    # Sorting is stable: groups of one size keep the order of their first sample.
    ranked = sorted(grouped(votes, lambda one, other: same(one[0], other[0])), key=len, reverse=True)
    distribution = tuple((group[0][0], len(group) / len(candidates)) for group in ranked)
    return Chosen((ranked[0][0][1],), distribution, distribution[0][1]) if ranked else Chosen(())
    yield  # a talk without questions

"""The answer that most samples agree on (self-consistency: Wang et al. 2022, arXiv 2203.11171)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from potstill.generation.candidate import Candidate
from potstill.generation.choosing.base import Chosen, Situation, kept
from potstill.generation.talk import Talk


def vote(situation: Situation, candidates: Sequence[Candidate]) -> Talk[Chosen]:
    """The kept answer whose parsed form most samples gave; on a tie, the earlier one.

    Shares are of all samples that were asked for: those without a parsed answer agree with nobody.
    """
    parsed = [situation.task.parse(candidate.text) for candidate in candidates]
    votes = Counter(answer for answer in parsed if answer is not None)
    ranked = [answer for answer, _ in votes.most_common()]  # equal counts keep the order of their first sample
    distribution = tuple((answer, votes[answer] / len(candidates)) for answer in ranked)
    order = {answer: place for place, answer in enumerate(ranked)}
    winners = sorted(
        (candidate for candidate in kept(candidates) if situation.task.parse(candidate.text) is not None),
        key=lambda candidate: order[situation.task.parse(candidate.text) or ""],
    )
    if not winners:
        return Chosen((), distribution)
    answer = situation.task.parse(winners[0].text) or ""
    return Chosen((winners[0],), distribution, votes[answer] / len(candidates))
    yield  # a talk without questions

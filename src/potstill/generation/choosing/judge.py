"""The best answer by a judge's word: each is held against the best so far, in both orders (Zheng et al. 2023, arXiv 2306.05685)."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.generation.candidate import Candidate
from potstill.generation.choosing.base import Chosen, Situation, kept
from potstill.models.talk import Answered, Step, Talk
from potstill.tasks.judging import compare, read_better


def judge(situation: Situation, candidates: Sequence[Candidate]) -> Talk[Chosen]:
    """The kept answer that wins every comparison since; a judge that contradicts itself, or says nothing, leaves the earlier one."""
    best: Candidate | None = None
    judged: list[Answered] = []
    for candidate in kept(candidates):
        if best is None or candidate.text.strip() == best.text.strip():
            best = best or candidate
            continue
        seat = situation.judge_of(best, candidate)
        asked = seat, situation.messages, situation.example.reference
        straight, swapped = yield Step((compare(*asked, best.text, candidate.text), compare(*asked, candidate.text, best.text)))
        judged += straight, swapped
        if read_better(straight) == "B" and read_better(swapped) == "A":
            best = candidate
    return Chosen((best,) if best is not None else (), judged=tuple(judged))

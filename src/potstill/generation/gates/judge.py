"""Drops answers to which the judge gives a low mark.

It pays where the answers are of mixed quality (AlpaGasus, Chen et al. 2023, arXiv 2307.08701); with a good teacher, filters of
this kind gave nothing (OpenThoughts, Guha et al. 2025, arXiv 2506.04178).
"""

from __future__ import annotations

from potstill.generation.gates.base import UNSCORED, GateContext
from potstill.records import Verdict

NAME = "judge"
VERSION = 1


def judge(context: GateContext) -> Verdict:
    """Keep answers with at least the mark `gates.judge`. Codes: `low` where dropped, `unscored` where the judge gave no mark."""
    mark, least = context.mark, context.gates.judge
    if mark is None or least is None:
        return Verdict(NAME, True, "the judge gave no mark", VERSION, UNSCORED)
    if mark < least:
        return Verdict(NAME, False, f"the judge's mark is {mark:.2f}; gates.judge asks for {least:.2f}", VERSION, "low")
    return Verdict(NAME, True, version=VERSION)

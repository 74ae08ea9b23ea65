"""Drops rows on which the samples, or the teachers, do not agree.

The share of the votes tells right answers from wrong ones (self-consistency, Wang et al. 2022, arXiv 2203.11171, §3.3).
"""

from __future__ import annotations

from potstill.generation.gates.base import UNSCORED, GateContext
from potstill.records import Verdict

NAME = "agreement"
VERSION = 1


def agreement(context: GateContext) -> Verdict:
    """Keep answers with at least `min_agreement` of the votes. Codes: `split` where dropped, `unscored` where nobody voted."""
    share, least = context.agreement, context.gates.min_agreement
    if share is None or least is None:
        return Verdict(NAME, True, "there was no vote", VERSION, UNSCORED)
    if share < least:
        return Verdict(NAME, False, f"has {share:.0%} of the votes; gates.min_agreement asks for {least:.0%}", VERSION, "split")
    return Verdict(NAME, True, version=VERSION)

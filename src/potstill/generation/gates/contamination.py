"""Drops rows that give a validation or test row away: scores on rows that were learnt prove nothing.

What is looked for, and what not, stands in `potstill.data.contamination`.
"""

from __future__ import annotations

from potstill.generation.gates.base import UNSCORED, GateContext
from potstill.records import Verdict

NAME = "contamination"
VERSION = 1


def contamination(context: GateContext) -> Verdict:
    """Keep rows that resemble no held-out row. Codes: `runs`, `paraphrase`; `unscored` where there is nothing to compare with."""
    if context.held_out is None:
        return Verdict(NAME, True, "no held-out rows to compare with", VERSION, UNSCORED)
    match = context.held_out.find(context.questions, context.answers, only_test=context.validation)
    if match is None:
        return Verdict(NAME, True, version=VERSION)
    place = f"{match.split} row {match.row:,}"
    how = f"{match.share:.0%} of its own wording stands here" if match.kind == "runs" else f"similarity {match.share:.2f}"
    return Verdict(NAME, False, f"gives {place} away: {how}", VERSION, match.kind)

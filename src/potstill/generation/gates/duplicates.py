"""Drops rows that say what an earlier row says.

Repeated rows make a model learn by heart, and cost steps (Lee et al. 2021, arXiv 2107.06499). A question like an earlier one with
another answer is kept: it shows where the line runs.
"""

from __future__ import annotations

from potstill.data.rows import quote
from potstill.generation.gates.base import UNSCORED, GateContext
from potstill.records import Verdict

NAME = "duplicates"
VERSION = 1


def duplicates(context: GateContext) -> Verdict:
    """Keep the first of several like rows, and remember it in `context.earlier`, so each row is to be judged once.

    Codes: `exact` (but for case and blanks), `near`; `unscored` where no rows are remembered.
    """
    if context.earlier is None:
        return Verdict(NAME, True, "no rows to compare with", VERSION, UNSCORED)
    twin = context.earlier.offer(context.example.id, context.questions, context.answers)
    if twin is None:
        return Verdict(NAME, True, version=VERSION)
    if twin.exact:
        return Verdict(NAME, False, f"says the same as row {quote(twin.name)}", VERSION, "exact")
    return Verdict(NAME, False, f"says nearly the same as row {quote(twin.name)} (similarity {twin.similarity:.2f})", VERSION, "near")

"""The first rows, asked before the rest is bought: do they pass the gates, and what does a row that is kept cost?"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from potstill.errors import ModelError
from potstill.generation.asking import ask_rows, rows_of
from potstill.generation.collect import judge_rows
from potstill.generation.interview import Interview
from potstill.models.base import Remote
from potstill.models.budget import Budget
from potstill.records import Example
from potstill.spec.sections import PilotSpec
from potstill.store.events import EventLog

_WORTH = 4
"""A pilot is flown where there are at least so many times its rows."""


@dataclass(frozen=True, slots=True)
class PilotResult:
    """What a pilot showed: rows asked, rows kept, why the others were dropped, dollars in all (None: unknown)."""

    rows: int
    kept: int
    dropped: Counter[str]
    dollars: float | None

    @property
    def dollars_per_kept(self) -> float | None:
        """What one accepted row cost; None where that is unknown, or none was accepted."""
        return None if self.dollars is None or not self.kept else self.dollars / self.kept


def fly_pilot(interview: Interview, train: Sequence[Example], spec: PilotSpec, log: EventLog, budget: Budget) -> PilotResult | None:
    """Ask the first rows and judge them; None where nothing is bought (all teachers are local), or there are too few rows for it.

    Raises ModelError where fewer pass than the spec wants.
    """
    bought = any(isinstance(seat.model, Remote) for seat in interview.teachers)
    if not bought or not spec.rows or len(train) < _WORTH * spec.rows:
        return None
    some = list(itertools.islice(train, spec.rows))
    ask_rows(interview, rows_of(some), len(some), log, budget=budget, title="pilot")
    judged = list(judge_rows(interview, some))
    kept = sum(bool(one.rows) for one in judged)
    drops = [one.drop for one in judged if one.drop is not None]
    asked = {candidate.reply.key for one in judged if one.outcome is not None for candidate in one.outcome.candidates}
    result = PilotResult(len(some), kept, Counter(verdict.gate for verdict, _ in drops), interview.ledger.dollars_for(sorted(asked)))
    if kept < spec.pass_rate * len(some):
        reasons = "".join(f"\n  {verdict.gate}: {verdict.reason}" for verdict, _ in drops[:3])
        raise ModelError(
            f"pilot: {kept} of the first {len(some)} rows pass the gates, and `generation.pilot.pass_rate` asks for {spec.pass_rate:.0%}; "
            f"the rest was not asked. Change the prompt, the teacher or the gates, or lower the rate. The first reasons:{reasons}"
        )
    log.info(_describe(result, len(train)))
    return result


def _describe(result: PilotResult, rows: int) -> str:
    said = f"pilot: {result.kept} of {result.rows} rows pass the gates"
    if result.dollars_per_kept is None or not result.dollars:
        return said
    return f"{said}, ${result.dollars_per_kept:.4f} an accepted row, so about ${result.dollars / result.rows * rows:,.2f} for all {rows:,}"

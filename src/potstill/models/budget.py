"""What may be spent: caps on dollars, tokens, calls and minutes, kept whatever the endpoint does.

Each call is admitted with the most that it can cost, and settled with what it did cost. What may have been charged without an
answer (a kill, a time-out, half a body) stays counted at its most. So a cap is never passed, restarts included.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from potstill.errors import BudgetError
from potstill.models.waiting import Waiting
from potstill.records import Completion, Cost
from potstill.spec.sections import BudgetSpec
from potstill.store.ledger import Ledger

_ROUNDING = 1e-9
"""Dollars: what adding up floats may be off."""


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that may be spent; None: no cap."""

    dollars: float | None = None
    tokens: int | None = None
    calls: int | None = None
    minutes: float | None = None

    @classmethod
    def of(cls, spec: BudgetSpec) -> Caps:
        """A spec's caps."""
        return cls(spec.dollars, spec.tokens, spec.calls, spec.minutes)

    def passed_by(self, cost: Cost) -> str | None:
        """The cap that this cost passes, in words."""
        if self.calls is not None and cost.calls > self.calls:
            return f"{self.calls:,} calls"
        if self.tokens is not None and cost.tokens > self.tokens:
            return f"{self.tokens:,} tokens"
        if self.dollars is not None and (cost.dollars is None or cost.dollars > self.dollars + _ROUNDING):
            return f"${self.dollars:,.2f}"
        return None


_NOTHING = Cost()


def cost_of(completion: Completion, dollars: float | None, most: Cost) -> Cost:
    """What a call that came back cost, or may have cost: `most`, where the provider did not say."""
    if not completion.counted or (completion.fault is not None and completion.fault.charged):
        return most
    return Cost(1, completion.usage.input_tokens + completion.usage.output_tokens, dollars)


class Budget:
    """What was spent under caps, and what is held for calls in flight. One event loop; shared by all models of a run.

    `spent` and `seconds` are those of earlier processes, as the ledger has them.
    """

    def __init__(self, caps: Caps, spent: Cost = _NOTHING, seconds: float = 0.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.caps, self.spent, self.held = caps, spent, Cost()
        self._seconds, self._clock = seconds, clock
        self._deadline: float | None = None
        self._slowest_s = 0.0
        self._waiting = Waiting()

    @classmethod
    def left(cls, spec: BudgetSpec, *ledgers: Ledger) -> Budget:
        """A spec's budget, less what ledgers say was spent by the runs that they are open for."""
        spent = sum((ledger.spent() for ledger in ledgers), Cost())
        return cls(Caps.of(spec), spent, sum(ledger.seconds_asked() for ledger in ledgers))

    def start(self) -> float | None:
        """Let the minutes run, where they do not yet; seconds that are left, None where there is no cap."""
        if self.caps.minutes is None:
            return None
        if self._deadline is None:
            self._deadline = self._clock() + self.caps.minutes * 60 - self._seconds
        return max(self._deadline - self._clock(), 0.0)

    async def hold(self, most: Cost) -> None:
        """Set `most` aside for a call; waits while calls in flight may give back what it needs.

        Raises BudgetError where it cannot fit any more, or where the call could not be back in time.
        """
        async with self._waiting.turn:
            while passed := self.caps.passed_by(self.spent + self.held + most):
                if not self.held.calls:
                    raise BudgetError(self._reached(passed))
                await self._waiting.for_change()
            if self.too_late:
                raise self.out_of_time()
            self.held += most

    @property
    def too_late(self) -> bool:
        """Whether a call that leaves now could not be back in time."""
        return self._deadline is not None and self._clock() + self._slowest_s >= self._deadline

    def takes(self, most: Cost) -> bool:
        """Set `most` aside where that fits without waiting; whether it did."""
        if self.caps.passed_by(self.spent + self.held + most):
            return False
        self.held += most
        return True

    def reclaim(self, most: Cost) -> None:
        """Hold again what counts as spent because an earlier process held it, for calls whose answers are still to come."""
        self.spent -= most
        self.held += most

    def settle(self, most: Cost, cost: Cost, seconds: float = 0.0) -> None:
        """A call came back after `seconds`: `cost` is spent, the rest of what was held for it is free."""
        held = self.held - most
        self.held = held if held.calls else Cost()  # forget what adding floats left over
        self.spent += cost
        self._slowest_s = max(self._slowest_s, seconds)
        self._waiting.tell_change()

    def out_of_time(self) -> BudgetError:
        """What to raise when no second is left."""
        return BudgetError(self._reached(f"{self.caps.minutes:g} minutes"))

    def _reached(self, cap: str) -> str:
        dollars = "" if self.spent.dollars is None else f", ${self.spent.dollars:,.4f}"
        return (
            f"the budget of {cap} is used up as far as whole calls fit: {self.spent.calls:,} calls, {self.spent.tokens:,} tokens{dollars} "
            "so far. Every answer is kept: raise the cap in `generation.budget`, or set its `when_reached` to `go_on`, and run the same "
            "command again"
        )

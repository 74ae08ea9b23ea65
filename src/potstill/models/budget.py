"""What may be spent: caps on dollars, tokens, calls and minutes, kept whatever the endpoint does.

Each call is admitted with the most that it can cost, and settled with what it did cost. What may have been charged without an
answer (a kill, a time-out, half a body) stays counted at its most. So a cap is never passed, restarts included.

Money by the hour is time: while a model is asked whose machine is paid so, waits included, what that costs is counted as it goes by, and
the dollars that are left are a deadline, as minutes are. Its calls cost no dollars besides.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from potstill.errors import BudgetError
from potstill.models.base import Model
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
            return _dollars_text(self.dollars)
        return None


def _dollars_text(dollars: float) -> str:
    return f"${dollars:,.2f}"


_NOTHING = Cost()


def cost_of(completion: Completion, dollars: float | None, most: Cost) -> Cost:
    """What a call that came back cost, or may have cost: `most`, where the provider did not say."""
    if not is_told(completion):
        return most
    return Cost(1, completion.usage.input_tokens + completion.usage.output_tokens, dollars)


def is_told(completion: Completion) -> bool:
    """Whether the provider said what a call cost, or that it cost nothing."""
    return completion.counted and not (completion.fault is not None and completion.fault.charged)


def dollars_a_second(model: Model) -> float:
    """What a model's machine costs while it is asked; 0 where the price is by tokens, or unknown."""
    idle, busy = (model.dollars(Completion("", "stop", busy_s=seconds)) for seconds in (0.0, 1.0))
    return 0.0 if idle is None or busy is None else busy - idle


class Machine:
    """What gives a model's answers while it is asked: what a second of it costs, how long its slowest call took, when its time ends.

    `cap` is what ends it, in words.
    """

    def __init__(self, dollars_a_second: float, limit: asyncio.Timeout, clock: Callable[[], float]) -> None:
        self.dollars_a_second, self.limit, self.slowest_s, self.cap = dollars_a_second, limit, 0.0, ""
        self._clock, self._lapped = clock, clock()

    def lap(self) -> float:
        """Seconds since the last lap: answers that are charged with them bear, all together, the whole time."""
        before, self._lapped = self._lapped, self._clock()
        return self._lapped - before


class Budget:
    """What was spent under caps, and what is held for calls in flight. One event loop; shared by all models of a run.

    `spent` and `seconds` are those of earlier processes, as the ledger has them. `by_time` is that part of `spent` which machines by the
    hour have cost since this budget was made.
    """

    def __init__(self, caps: Caps, spent: Cost = _NOTHING, seconds: float = 0.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.caps, self.spent, self.held, self.by_time = caps, spent, Cost(), 0.0
        self.clock = clock
        self._seconds = seconds
        self._deadline: float | None = None
        self._slowest_s = 0.0
        self._waiting = Waiting()
        self._machines: list[Machine] = []
        self.dollars_a_second = 0.0
        """What all machines together cost that are asked now."""
        self._counted_until = clock()

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
            self._deadline = self.clock() + self.caps.minutes * 60 - self._seconds
        return max(self._deadline - self.clock(), 0.0)

    @contextlib.asynccontextmanager
    async def asking(self, model: Model) -> AsyncIterator[Machine]:
        """Ask a model in this block; its time counts.

        Raises BudgetError where no time is left under the caps, having cancelled what the block was at.
        """
        try:
            async with asyncio.timeout(None) as limit:
                machine = Machine(dollars_a_second(model), limit, self.clock)
                self._change_machines([*self._machines, machine])
                self._set_limit(machine)
                try:
                    yield machine
                finally:
                    self._change_machines([other for other in self._machines if other is not machine])
        except TimeoutError:
            assert limit.expired(), "a time-out that nobody awaited"
            raise BudgetError(self._reached(machine.cap)) from None

    def count_time(self) -> None:
        """Count what machines by the hour have cost until now."""
        now = self.clock()
        if self.dollars_a_second:
            dollars = self.dollars_a_second * (now - self._counted_until)
            self.by_time += dollars
            self.spent += Cost(dollars=dollars)
        self._counted_until = now

    def ahead(self, seconds: float) -> tuple[float, float]:
        """So many seconds from now, and what machines cost in them, as far as the caps let them go on."""
        left = self.start()
        dollars = self.dollars_a_second * seconds
        if dollars and self.caps.dollars is not None:
            dollars = min(dollars, self._dollars_left())
        return seconds if left is None else min(seconds, left), dollars

    async def hold(self, most: Cost) -> None:
        """Set `most` aside for a call; waits while calls in flight may give back what it needs.

        Raises BudgetError where it cannot fit any more, or where the call could not be back in time.
        """
        async with self._waiting.turn:
            while passed := self._passed_with(most):
                if not self.held.calls:
                    raise BudgetError(self._reached(passed))
                await self._waiting.for_change()
            if self._minutes_are_over:
                raise BudgetError(self._reached(self._minutes))
            self._set_aside(most)

    def too_late(self, machine: Machine) -> BudgetError | None:
        """Why a call that leaves for this machine now could not be back in time; None where it can."""
        if self._minutes_are_over:
            return BudgetError(self._reached(self._minutes))
        passed = self._passed_with(_NOTHING) if machine.dollars_a_second else None
        return None if passed is None else BudgetError(self._reached(passed))

    def takes(self, most: Cost) -> bool:
        """Set `most` aside where that fits without waiting; whether it did."""
        if self._passed_with(most):
            return False
        self._set_aside(most)
        return True

    def reclaim(self, most: Cost) -> None:
        """Hold again what counts as spent because an earlier process held it, for calls whose answers are still to come."""
        self.spent -= most
        self._set_aside(most)

    def settle(self, most: Cost, cost: Cost, seconds: float = 0.0) -> None:
        """A call came back after `seconds`: `cost` is spent, the rest of what was held for it is free."""
        held = self.held - most
        self.held = held if held.calls else Cost()  # forget what adding floats left over
        self.spent += cost
        self._slowest_s = max(self._slowest_s, seconds)
        self._tell_change()

    def _set_aside(self, most: Cost) -> None:
        self.held += most
        self._move_limits()

    def _tell_change(self) -> None:
        self._move_limits()
        self._waiting.tell_change()

    def _passed_with(self, most: Cost) -> str | None:
        """The cap that `most` would pass, in words; machines by the hour need the dollars until their calls are back."""
        if self.dollars_a_second:
            self.count_time()
            most += Cost(dollars=sum(machine.dollars_a_second * machine.slowest_s for machine in self._machines))
        return self.caps.passed_by(self.spent + self.held + most)

    def _change_machines(self, machines: list[Machine]) -> None:
        self.count_time()
        self._machines, self.dollars_a_second = machines, sum(machine.dollars_a_second for machine in machines)
        self._tell_change()

    def _move_limits(self) -> None:
        """What is left of the dollars has changed, and with it the time of machines by the hour."""
        if self.dollars_a_second and self.caps.dollars is not None:
            self.count_time()
            for machine in self._machines:
                if machine.dollars_a_second and not machine.limit.expired():
                    self._set_limit(machine)

    def _set_limit(self, machine: Machine) -> None:
        ends: list[tuple[float, str]] = []
        if (left := self.start()) is not None:
            ends.append((left, self._minutes))
        if machine.dollars_a_second and self.caps.dollars is not None:
            ends.append((self._dollars_left() / self.dollars_a_second, _dollars_text(self.caps.dollars)))
        if ends:
            seconds, machine.cap = min(ends)
            machine.limit.reschedule(asyncio.get_running_loop().time() + seconds)

    def _dollars_left(self) -> float:
        taken = (self.spent + self.held).dollars
        return 0.0 if taken is None or self.caps.dollars is None else max(self.caps.dollars - taken, 0.0)

    @property
    def _minutes_are_over(self) -> bool:
        return self._deadline is not None and self.clock() + self._slowest_s >= self._deadline

    @property
    def _minutes(self) -> str:
        return f"{self.caps.minutes:g} minutes"

    def _reached(self, cap: str) -> str:
        dollars = "" if self.spent.dollars is None else f", ${self.spent.dollars:,.4f}"
        return (
            f"the budget of {cap} is used up as far as whole calls fit: {self.spent.calls:,} calls, {self.spent.tokens:,} tokens{dollars} "
            "so far. Every answer is kept: raise the cap in `generation.budget`, or set its `when_reached` to `go_on`, and run the same "
            "command again"
        )

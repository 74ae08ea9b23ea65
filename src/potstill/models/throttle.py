"""How fast one endpoint is asked: calls in flight, requests and tokens a minute, and when it is left alone for a while.

Concurrency follows what helps. It starts low, doubles while the rate of answers follows, goes back and holds where it does not, and
halves when the endpoint says that it is busy. While nothing but failures come, the endpoint is left alone for longer and longer, one
call at a time trying whether it is back; after `patience_s` of that the run stops, and no row's attempts are used up meanwhile.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from potstill.errors import EndpointError
from potstill.models.waiting import Waiting
from potstill.records import Fault

WINDOW_S = 60.0
FIRST_LIMIT = 32
"""Calls in flight at the start, where so many are allowed: few enough not to storm a small server."""
_TRIP = 8
"""So many failures without an answer in between open the circuit."""
_LONGEST_COOL_DOWN_S = 60.0
_GAP_S = 0.002
"""Calls beyond those that were in flight before leave so far apart. Started together they would be answered together, time and again, and
all wait for the last of them to be seen to."""
_HELPS_AT_FIRST, _HELPS = 0.25, 0.5
"""Growing has helped where the rate of answers rose by at least this share of what the growth of the limit promised. Doubling at the
start is easily content, because being too slow costs more than a few calls too many; later growth has to prove itself."""
_DOUBLING, _AFTER_ENOUGH, _AFTER_BUSY = 2.0, 1.5, 1.25
"""How the limit grows: at the start, once growing did not help, and once the endpoint was busy."""
_FIRST_HOLD, _LONGEST_HOLD, _HOLD_WHEN_BUSY = 2, 64, 4
"""Epochs in which the limit stays where growing did not help: longer each time, so that chance seldom carries it on."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an endpoint, or its user, allows; None: no limit."""

    concurrency: int = 64
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    patience_s: float = 300.0


@dataclass(frozen=True, slots=True)
class Past:
    """Calls that count for a minute's limits, or a part of them, and their tokens."""

    seconds_ago: float
    calls: float
    tokens: float


@dataclass(eq=False, slots=True)
class Ticket:
    """One admitted call."""

    epoch: int
    counted: list[float] | None
    """Its entry in the minute of requests."""
    held: list[float] | None
    """Its entry in the minute of tokens."""
    tries: bool
    """Whether it left while the circuit was open, to see whether the endpoint is back."""


@dataclass
class _Window:
    """Amounts of the last minute, and when the next one fits: in no minute is `limit` passed."""

    limit: float
    entries: deque[list[float]] = field(default_factory=deque)
    total: float = 0.0

    def wait_s(self, amount: float, now: float) -> float:
        self._forget(now)
        amount = min(amount, self.limit)  # what never fits waits for an empty minute
        if self.total + amount <= self.limit:
            return 0.0
        excess = self.total + amount - self.limit
        for at, held in self.entries:
            excess -= held
            if excess <= 0:
                return max(at + WINDOW_S - now, 0.001)
        return WINDOW_S

    def add(self, amount: float, now: float) -> list[float]:
        entry = [now, amount]
        self.entries.append(entry)
        self.total += amount
        return entry

    def correct(self, entry: list[float], amount: float) -> None:
        if self.entries and entry[0] >= self.entries[0][0]:
            self.total += amount - entry[1]
            entry[1] = amount

    def _forget(self, now: float) -> None:
        while self.entries and self.entries[0][0] <= now - WINDOW_S:
            self.total -= self.entries.popleft()[1]


class Throttle:
    """Admits calls to one endpoint. All of it runs in one event loop; `clock` gives seconds that never go back."""

    def __init__(self, name: str, limits: Limits, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._limits, self._clock = name, limits, clock
        self.limit = min(FIRST_LIMIT, limits.concurrency)
        self.in_flight = 0
        self._requests = _Window(limits.requests_per_minute) if limits.requests_per_minute else None
        self._tokens = _Window(limits.tokens_per_minute) if limits.tokens_per_minute else None
        self._waiting = Waiting()
        self._open, self._opened_at = 0, clock() - _GAP_S  # so many calls were in flight at once, and since when
        self._closed_until = 0.0
        self._failures = self._tries = 0
        self._failing_since: float | None = None
        self._epoch = 0
        self._pace = _Pace(clock())

    @property
    def down(self) -> bool:
        """True while the endpoint gives nothing but failures: its calls are tries, and use up no row's attempts."""
        return self._failures >= _TRIP

    @property
    def out_of_patience(self) -> bool:
        """Whether the endpoint has given nothing but failures for as long as is waited for it."""
        return self.down and self._failing_since is not None and self._clock() - self._failing_since >= self._limits.patience_s

    async def admit(self, tokens: int) -> Ticket:
        """Wait until one more call may leave, and count it; `tokens` is what it may use."""
        async with self._waiting.turn:  # in order; whoever waits holds back those behind
            while (wait := self._wait_s(tokens)) is None or wait > 0:
                await self._waiting.for_change(wait)
            now = self._clock()
            counted = self._requests.add(1, now) if self._requests else None
            self.in_flight += 1
            if self.in_flight > self._open:
                self._open, self._opened_at = self.in_flight, now
            self._pace.saturated |= self.in_flight >= self.limit
            return Ticket(self._epoch, counted, self._tokens.add(tokens, now) if self._tokens else None, self.down)

    def settle(self, ticket: Ticket, tokens: int, fault: Fault | None, reason: str = "") -> None:
        """A call came back: `tokens` is what it used, `fault` why it failed.

        Raises EndpointError where the endpoint has given nothing but failures for `patience_s`.
        """
        self.in_flight -= 1
        if self._tokens and ticket.held is not None:
            self._tokens.correct(ticket.held, tokens)
        self._waiting.tell_change()
        if fault is None or fault.kind in ("garbled", "short"):
            self._answered()
        else:
            self._failed(ticket, fault, reason)

    def forget(self) -> None:
        """A call was cancelled: it tells nothing of the endpoint."""
        self.in_flight -= 1
        self._waiting.tell_change()

    def give_back(self, ticket: Ticket) -> None:
        """An admitted call did not leave, and counts for no minute."""
        if self._requests and ticket.counted is not None:
            self._requests.correct(ticket.counted, 0)
        if self._tokens and ticket.held is not None:
            self._tokens.correct(ticket.held, 0)
        self.forget()

    def recall(self, calls: Iterable[Past]) -> None:
        """Count calls of the last minute that were made elsewhere: an earlier process, or others that share these limits."""
        now = self._clock()
        for past in sorted(calls, key=lambda past: -past.seconds_ago):
            if self._requests:
                self._requests.add(past.calls, now - past.seconds_ago)
            if self._tokens:
                self._tokens.add(past.tokens, now - past.seconds_ago)

    def _wait_s(self, tokens: int) -> float | None:
        """Seconds until a call may leave; None: until another comes back."""
        now = self._clock()
        if self.in_flight >= (1 if self.down else self.limit):
            return None
        waits = [self._closed_until - now]
        if self.in_flight >= self._open:
            waits.append(self._opened_at + _GAP_S - now)
        if self._requests:
            waits.append(self._requests.wait_s(1, now))
        if self._tokens:
            waits.append(self._tokens.wait_s(tokens, now))
        return max(*waits, 0.0)

    def _answered(self) -> None:
        self._failures, self._tries, self._failing_since = 0, 0, None
        self.limit = self._pace.next_limit(self._clock(), self.limit, self._limits.concurrency)

    def _failed(self, ticket: Ticket, fault: Fault, reason: str) -> None:
        now = self._clock()
        self._failures += 1
        self._tries += ticket.tries
        self._failing_since = self._failing_since if self._failing_since is not None else now
        if fault.kind == "busy" and ticket.epoch == self._epoch:
            # Calls that left before the last halving say nothing new.
            self._epoch += 1
            self.limit = max(1, self.limit // 2)
            self._open = min(self._open, self.limit)
            self._pace.restart(now)
        closed_s = fault.retry_after_s
        if self.down:
            # By tries, not failures: those of calls that were in flight when the circuit opened say nothing more.
            closed_s = max(closed_s, min(2.0**self._tries, _LONGEST_COOL_DOWN_S))
            if self.out_of_patience:
                minutes = (now - self._failing_since) / 60
                raise EndpointError(
                    f"{self._name}: nothing but failures for {minutes:.1f} minutes, {self._failures:,} calls in all; the last: {reason}. "
                    "What was answered is kept: run the same command again when it is back"
                )
        self._closed_until = max(self._closed_until, now + closed_s)


class _Pace:
    """Whether more calls in flight bring more answers. An epoch is some answers for each call that may be in flight."""

    def __init__(self, now: float) -> None:
        self.saturated = False
        """Whether as many calls were in flight as may be, so that the rate says something of the limit."""
        self._growth = _DOUBLING
        self._before: tuple[float, int] | None = None  # the rate before the last growth, and its limit
        self._hold, self._holding = _FIRST_HOLD, 0
        self._begin(now)

    def restart(self, now: float) -> None:
        """The endpoint is busy: start counting anew, and grow gently from here."""
        self._growth, self._before = _AFTER_BUSY, None
        self._holding = max(self._holding, _HOLD_WHEN_BUSY)
        self._begin(now)

    def next_limit(self, now: float, limit: int, most: int) -> int:
        """The limit after one more answer."""
        self._answers += 1
        if self._answers < limit * (1 if self._growth == _DOUBLING else 2):
            return limit
        rate, saturated = self._answers / max(now - self._started, 1e-9), self.saturated
        self._begin(now)
        if not saturated:
            return limit
        if self._holding:
            self._holding -= 1
            return limit
        if self._before is not None and not self._helped(rate, limit):
            back, self._before, self._growth = self._before[1], None, min(self._growth, _AFTER_ENOUGH)
            self._holding, self._hold = self._hold, min(2 * self._hold, _LONGEST_HOLD)
            return back
        self._before = (rate, limit) if limit < most else None
        return min(most, max(limit + 1, int(limit * self._growth)))

    def _helped(self, rate: float, limit: int) -> bool:
        assert self._before is not None
        rate_before, limit_before = self._before
        promised = limit / limit_before - 1
        return rate / rate_before - 1 >= (_HELPS_AT_FIRST if self._growth == _DOUBLING else _HELPS) * promised

    def _begin(self, now: float) -> None:
        self._started, self._answers, self.saturated = now, 0, False

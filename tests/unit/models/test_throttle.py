"""The throttle: no minute's limit is ever passed, the door is held open as far as it helps, and an endpoint that is down is left alone."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import Clock, run

from potstill.errors import EndpointError
from potstill.models.throttle import FIRST_LIMIT, Limits, Throttle, Ticket
from potstill.records import Fault

BUSY, DOWN = Fault("busy"), Fault("down")
TRIP = 8

arrivals = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.3, 7.0, 59.9, 61.0]), st.integers(1, 120), st.integers(0, 200), st.sampled_from([0.0, 1.0, 80.0])
    ),
    min_size=1,
    max_size=40,
)
"""Calls: seconds after the one before, tokens that it may use, tokens that it uses, seconds that it takes."""


@given(arrivals, st.none() | st.integers(1, 6), st.none() | st.integers(50, 300), st.integers(1, 20))
@settings(max_examples=150, deadline=None)
def test_no_minute_holds_more_calls_or_tokens_than_allowed_and_all_are_let_in_in_their_order(calls, a_minute, tokens_a_minute, width):
    async def story(clock: Clock) -> None:
        throttle = Throttle("here", Limits(width, a_minute, tokens_a_minute), clock=clock)
        admitted: list[list[float]] = []  # when, tokens: those that it may use, then those that it did
        order: list[int] = []

        async def call(number: int, may_use: int, uses: int, seconds: float) -> None:
            ticket = await throttle.admit(may_use)
            order.append(number)
            last_minute = [tokens for at, tokens in admitted if at > clock() - 60]
            assert a_minute is None or len(last_minute) < a_minute
            # A call that is larger than a minute takes a whole one.
            assert tokens_a_minute is None or sum(last_minute) + min(may_use, tokens_a_minute) <= tokens_a_minute
            admitted.append(entry := [clock(), may_use])
            assert throttle.in_flight <= width
            await asyncio.sleep(seconds)
            throttle.settle(ticket, uses, None)
            entry[1] = uses

        tasks = []
        for number, (gap, *rest) in enumerate(calls):
            await asyncio.sleep(gap)
            tasks.append(asyncio.create_task(call(number, *rest)))
        await asyncio.gather(*tasks)
        assert order == list(range(len(calls)))

    run(story)


def test_a_minute_is_used_to_the_full():
    async def story(clock: Clock) -> list[float]:
        throttle, times = Throttle("here", Limits(4, requests_per_minute=10), clock=clock), []
        for _ in range(30):
            ticket = await throttle.admit(1)
            times.append(round(clock()))
            throttle.settle(ticket, 1, None)
        return times

    assert run(story) == [0] * 10 + [60] * 10 + [120] * 10


def test_tokens_that_were_not_used_are_free_again_at_once():
    async def story(clock: Clock) -> float:
        throttle = Throttle("here", Limits(4, tokens_per_minute=100), clock=clock)
        for _ in range(9):
            throttle.settle(await throttle.admit(20), 10, None)
        return clock()

    assert run(story) == 0.0


def test_a_call_that_no_minute_can_hold_gets_one_to_itself():
    async def story(clock: Clock) -> list[float]:
        throttle, times = Throttle("here", Limits(4, tokens_per_minute=100), clock=clock), []
        for tokens in (50, 500, 50):
            await throttle.admit(tokens)
            times.append(round(clock()))
        return times

    assert run(story) == [0, 60, 120]


async def flight(throttle: Throttle) -> list[Ticket]:
    return [await throttle.admit(1) for _ in range(throttle.limit)]


def test_calls_that_were_in_flight_together_halve_the_limit_once():
    async def story(clock: Clock) -> list[int]:
        throttle, limits = Throttle("here", Limits(64), clock=clock), []
        for _ in range(5):
            throttle.settle(await throttle.admit(1), 1, None)  # what is answered now and then is not down
            tickets = await flight(throttle)
            for ticket in tickets[: TRIP - 1]:
                throttle.settle(ticket, 0, BUSY, "429")
            for ticket in tickets[TRIP - 1 :]:
                throttle.settle(ticket, 1, None)
            limits.append(throttle.limit)
        return limits

    assert run(story) == [FIRST_LIMIT >> halvings for halvings in range(1, 6)]


class Server:
    """Works on `slots` calls at once, `seconds` each (on average, where `lengths` draws them); refuses calls above `refuses_above`."""

    def __init__(self, slots: int, seconds: float, *, lengths: random.Random | None = None, refuses_above: int = 10**9) -> None:
        self.most_inside = self.inside = 0
        self._slots, self._seconds, self._lengths, self._refuses_above = asyncio.Semaphore(slots), seconds, lengths, refuses_above

    async def answer(self) -> Fault | None:
        if self.inside >= self._refuses_above:
            return BUSY
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        async with self._slots:
            await asyncio.sleep(self._lengths.expovariate(1 / self._seconds) if self._lengths else self._seconds)
        self.inside -= 1
        return None


def seconds_for(calls: int, width: int, server: Callable[[], Server]) -> tuple[float, Throttle]:
    """How long it takes until so many calls are answered, and the throttle at the end."""

    async def story(clock: Clock) -> tuple[float, Throttle]:
        throttle, serving, left = Throttle("here", Limits(width), clock=clock), server(), iter(range(calls))

        async def work() -> None:
            for _ in left:
                fault: Fault | None = BUSY
                while fault is not None:
                    ticket = await throttle.admit(1)
                    fault = await serving.answer()
                    throttle.settle(ticket, 1, fault, "429")
                    await asyncio.sleep(1.0 if fault else 0.0)

        await asyncio.gather(*(work() for _ in range(width)))
        return clock(), throttle

    return run(story)


@pytest.mark.parametrize("slots", [4, 10, 16, 24, 40])
def test_where_a_server_gets_no_faster_the_limit_stays_near_what_it_can_do(slots):
    seconds, throttle = seconds_for(4000, 256, lambda: Server(slots, 0.5))
    assert seconds <= 1.03 * 4000 * 0.5 / slots
    assert throttle.limit <= max(2 * FIRST_LIMIT, 3.2 * slots)


@pytest.mark.parametrize("width", [1, 10, 64, 200])
def test_where_it_helps_the_limit_grows_to_all_that_is_allowed(width):
    seconds, throttle = seconds_for(80 * width, width, lambda: Server(10**6, 0.5))
    assert throttle.limit == width
    assert seconds <= 1.05 * 80 * 0.5


@pytest.mark.parametrize("seed", range(5))
def test_answers_of_uneven_lengths_neither_keep_it_small_nor_drive_it_up(seed):
    seconds, throttle = seconds_for(4000, 64, lambda: Server(64, 0.5, lengths=random.Random(seed)))
    assert throttle.limit == 64
    assert seconds <= 1.15 * 4000 * 0.5 / 64
    seconds, throttle = seconds_for(4000, 64, lambda: Server(4, 0.5, lengths=random.Random(seed)))
    assert throttle.limit < 64
    assert seconds <= 1.05 * 4000 * 0.5 / 4


def test_a_server_that_refuses_what_it_cannot_take_is_kept_busy_all_the_same():
    seconds, throttle = seconds_for(4000, 64, lambda: Server(20, 0.5, refuses_above=20))
    assert seconds <= 1.6 * 4000 * 0.5 / 20
    assert throttle.limit <= 32


def test_retry_after_closes_the_door_for_all():
    async def story(clock: Clock) -> list[float]:
        throttle, times = Throttle("here", Limits(4), clock=clock), []
        first, second = await throttle.admit(1), await throttle.admit(1)
        throttle.settle(first, 0, Fault("busy", retry_after_s=30.0), "429")
        throttle.settle(second, 0, Fault("busy", retry_after_s=5.0), "429")  # the longer wait stands

        async def call() -> None:
            await throttle.admit(1)
            times.append(clock())

        await asyncio.gather(call(), call())
        return times

    assert run(story) == pytest.approx([30.0, 30.0], abs=0.01)


async def break_down(throttle: Throttle, calls: int) -> None:
    for ticket in [await throttle.admit(1) for _ in range(calls)]:
        throttle.settle(ticket, 0, DOWN, "500: oops")


def test_after_failures_alone_one_call_at_a_time_tries_ever_more_rarely():
    async def story(clock: Clock) -> list[float]:
        throttle, tries = Throttle("here", Limits(64, patience_s=10**6), clock=clock), []
        await break_down(throttle, FIRST_LIMIT)
        assert throttle.down

        async def call() -> None:
            ticket = await throttle.admit(1)
            assert throttle.in_flight == 1
            tries.append(clock())
            await asyncio.sleep(0.5)
            throttle.settle(ticket, 0, DOWN, "500: oops")

        await asyncio.gather(*(call() for _ in range(10)))
        return [later - before - 0.5 for before, later in zip([-0.5, *tries], tries, strict=False)]

    # The first pause is short however many calls were in flight when it broke down.
    assert run(story) == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60, 60], abs=0.1)


@pytest.mark.parametrize("fault", [None, Fault("garbled"), Fault("short")])
def test_whatever_is_answered_opens_the_door_again(fault):
    async def story(clock: Clock) -> None:
        throttle = Throttle("here", Limits(64), clock=clock)
        await break_down(throttle, TRIP)
        assert throttle.down
        throttle.settle(await throttle.admit(1), 1, fault)
        assert not throttle.down
        before = clock()
        await flight(throttle)
        assert clock() - before < 0.1

    run(story)


def test_a_few_failures_among_answers_open_nothing():
    async def story(clock: Clock) -> None:
        throttle = Throttle("here", Limits(64), clock=clock)
        for _ in range(50):
            await break_down(throttle, TRIP - 1)
            throttle.settle(await throttle.admit(1), 1, None)
            assert not throttle.down
        assert clock() < 0.1

    run(story)


def test_calls_start_one_after_the_other_and_then_leave_as_soon_as_others_come_back():
    async def story(clock: Clock) -> None:
        throttle, times = Throttle("here", Limits(32), clock=clock), []
        tickets = []
        for _ in range(32):
            tickets.append(await throttle.admit(1))
            times.append(clock())
        assert [after - before for before, after in itertools.pairwise(times)] == pytest.approx([0.002] * 31)
        for ticket in tickets:
            throttle.settle(ticket, 1, None)
        before = clock()
        await flight(throttle)
        assert clock() == before

    run(story)


async def try_for_ever(throttle: Throttle) -> None:
    while True:
        throttle.settle(await throttle.admit(1), 0, DOWN, "500: oops")


def test_patience_has_an_end_that_says_what_was_wrong():
    async def story(clock: Clock) -> float:
        throttle = Throttle("https://here/v1", Limits(64, patience_s=300.0), clock=clock)
        with pytest.raises(
            EndpointError, match=r"//here/v1: nothing but failures for [5-6]\.\d minutes, .*500: oops.*run the same command"
        ):
            await try_for_ever(throttle)
        return clock()

    assert 300 <= run(story) <= 300 + 60


def test_an_answer_in_between_starts_patience_anew():
    async def story(clock: Clock) -> None:
        throttle = Throttle("here", Limits(64, patience_s=300.0), clock=clock)
        for _ in range(4):
            await break_down(throttle, TRIP)
            await asyncio.sleep(200.0)
            throttle.settle(await throttle.admit(1), 1, None)

    run(story)


def test_who_gives_up_waiting_holds_nobody_back_and_a_call_that_is_forgotten_leaves_its_place():
    async def story(clock: Clock) -> None:
        throttle = Throttle("here", Limits(1), clock=clock)
        await throttle.admit(1)
        waiting = [asyncio.create_task(throttle.admit(1)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        waiting[1].cancel()
        throttle.forget()
        await waiting[2]
        assert throttle.in_flight == 1

    run(story)

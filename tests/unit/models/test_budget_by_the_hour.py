"""Dollars by the hour: they are counted as time goes by, and no cap on them is passed, whatever fails and however often it is killed."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_endpoint import DOLLARS_A_TOKEN, MOST_NEW, READ, WRITTEN, FakeEndpoint, Outcome, question, text_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from killed_process import keep_what_is_on_disk, restore
from virtual_time import Clock, run

from potstill.errors import BudgetError
from potstill.models.ask import ask_all, ask_async
from potstill.models.budget import Budget, Caps
from potstill.models.stretch import AHEAD_S
from potstill.models.throttle import Limits
from potstill.records import Cost, Fault, Request
from potstill.store.ledger import Ledger

A_MINUTE = 1 / 60
"""Dollars a second of a machine that costs a dollar a minute."""
A_CALL = (READ + WRITTEN) * DOLLARS_A_TOKEN
NOTHING = Cost()


def echo(requests: Sequence[Request]) -> list[Outcome]:
    return [text_of(request) for request in requests]


def ask(caps: Caps, count: int, folder: Path, *, seconds: float, spent: Cost = NOTHING, script=echo) -> dict:
    """How asking `count` questions of a machine that costs a dollar a minute ends."""

    async def story(clock: Clock) -> dict:
        endpoint = FakeEndpoint(script, clock, seconds=seconds, dollars_a_second=A_MINUTE)
        budget, error = Budget(caps, spent, clock=clock), None
        with Ledger(folder / "ledger.sqlite") as ledger:
            try:
                await ask_async(endpoint, [question(str(number)) for number in range(count)], ledger, budget=budget)
            except BudgetError as reached:
                error = str(reached)
            assert ledger.spent().dollars == pytest.approx(clock() * A_MINUTE)
            assert (budget.spent - spent).dollars == pytest.approx(clock() * A_MINUTE)
            totals = ledger.usage()
            return {"answered": totals.answered, "orphaned": totals.orphaned, "s": clock(), "error": error, "spent": ledger.spent()}

    return run(story)


def test_dollars_by_the_hour_end_before_a_call_would_be_cut_off(tmp_path):
    found = ask(Caps(dollars=1.0), 1000, tmp_path, seconds=7.0)
    assert (found["answered"], found["orphaned"]) == (4 * 8, 0)
    assert found["s"] <= 60
    assert "the budget of $1.00 is used up" in found["error"]


def test_a_call_that_is_still_out_when_the_dollars_end_is_left_behind_and_its_tokens_count_at_their_most(tmp_path):
    found = ask(Caps(dollars=1.0), 1000, tmp_path, seconds=90.0)
    assert (found["s"], found["answered"], found["orphaned"]) == (pytest.approx(60.0), 0, 4)
    assert "the budget of $1.00 is used up" in found["error"]
    assert found["spent"].tokens == 4 * 11


def test_what_was_spent_before_leaves_less_time(tmp_path):
    assert ask(Caps(dollars=1.0), 1000, tmp_path, seconds=7.0, spent=Cost(0, 0, 0.5))["answered"] == 4 * 4


def test_of_two_caps_on_time_the_first_ends_it(tmp_path):
    assert "of 0.5 minutes" in ask(Caps(dollars=1.0, minutes=0.5), 1000, tmp_path / "minutes", seconds=90.0)["error"]
    assert "of $0.25 " in ask(Caps(dollars=0.25, minutes=0.5), 1000, tmp_path / "dollars", seconds=90.0)["error"]


@pytest.mark.parametrize("fault", [Fault("down"), Fault("down", charged=True), None])
def test_time_costs_the_same_whether_calls_fail_or_not(tmp_path, fault):
    found = ask(Caps(), 6, tmp_path, seconds=7.0, script=lambda requests: [fault if text_of(requests[0]) in "135" else "yes"])
    assert found["spent"].dollars == pytest.approx(found["s"] * A_MINUTE)


def test_answers_bear_the_time_among_them(tmp_path):
    async def story(clock: Clock) -> tuple[float, float | None]:
        endpoint = FakeEndpoint(echo, clock, seconds=7.0, dollars_a_second=A_MINUTE)
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            answers = await ask_async(endpoint, [question(str(number)) for number in range(50)], ledger, budget=Budget(Caps(), clock=clock))
        return clock(), answers.dollars

    seconds, dollars = run(story)
    assert dollars == pytest.approx(seconds * A_MINUTE)


def test_a_second_model_by_tokens_is_paid_out_of_the_same_dollars(tmp_path):
    """A call by tokens that leaves takes its dollars from the time of the machine; what comes of it, and is not used, gives time back."""

    async def story(clock: Clock) -> float:
        hourly = FakeEndpoint(echo, clock, seconds=7.0, dollars_a_second=A_MINUTE, name="hourly")
        by_tokens = FakeEndpoint(echo, clock, seconds=1.0, name="by tokens")
        streams = [
            (hourly, [question(f"h{number}") for number in range(1000)]),
            (by_tokens, [question(f"t{number}") for number in range(8)]),
        ]
        budget = Budget(Caps(dollars=8 * A_CALL + 2.0), clock=clock)
        with Ledger(tmp_path / "ledger.sqlite") as ledger, pytest.raises(BudgetError):
            await ask_all(streams, ledger, budget=budget)
        assert len(by_tokens.calls) == 8
        return clock()

    assert 120 - 7 < run(story) <= 120


@pytest.mark.parametrize(("cost", "end"), [(None, 30.0), (0.1, 54.0), (0.5, 30.0)])
def test_what_is_held_for_a_call_is_taken_from_the_time_and_what_it_did_not_cost_given_back(cost, end):
    async def story(clock: Clock) -> float:
        budget = Budget(Caps(dollars=1.0), clock=clock)

        async def call() -> None:
            await asyncio.sleep(10.0)
            await budget.hold(Cost(1, 0, 0.5))
            await asyncio.sleep(10.0)
            if cost is not None:
                budget.settle(Cost(1, 0, 0.5), Cost(1, 0, cost))

        calling = asyncio.create_task(call())
        with pytest.raises(BudgetError):
            async with budget.asking(FakeEndpoint(echo, clock, dollars_a_second=A_MINUTE)):
                await asyncio.sleep(1000.0)
        await calling
        assert (budget.spent + budget.held).dollars == pytest.approx(1.0)
        return clock()

    assert run(story) == pytest.approx(end)


def test_no_call_leaves_too_late_because_it_waited_for_its_turn(tmp_path):
    async def story(clock: Clock) -> FakeEndpoint:
        limits = Limits(2, requests_per_minute=1)
        endpoint = FakeEndpoint(echo, clock, limits=limits, seconds=10.0, dollars_a_second=A_MINUTE)
        with Ledger(tmp_path / "ledger.sqlite") as ledger, pytest.raises(BudgetError):
            await ask_async(endpoint, [question("a"), question("b")], ledger, budget=Budget(Caps(dollars=1.05), clock=clock))
        return endpoint

    assert run(story).times == [0.0]


def test_a_kill_in_a_long_silence_loses_none_of_its_time(tmp_path):
    file = tmp_path / "ledger.sqlite"

    async def story(clock: Clock) -> None:
        endpoint = FakeEndpoint(echo, clock, seconds=1000.0, dollars_a_second=A_MINUTE)
        with Ledger(file) as ledger:
            asking = asyncio.create_task(ask_async(endpoint, [question("a")], ledger, budget=Budget(Caps(), clock=clock)))
            await asyncio.sleep(333.0)
            keep_what_is_on_disk(file)
            asking.cancel()
            await asyncio.wait([asking])

    run(story)
    restore(file)
    with Ledger(file) as ledger:
        assert 333.0 <= ledger.seconds_asked() <= 333.0 + AHEAD_S
        assert 333.0 * A_MINUTE <= ledger.spent().dollars <= (333.0 + AHEAD_S) * A_MINUTE


@dataclass(frozen=True)
class Nature:
    """An endpoint: what it costs, how long a call takes, and how many of them fail."""

    dollars_a_second: float | None
    seconds: float
    trouble: float
    width: int
    seed: int


class Moody(FakeEndpoint):
    """Calls last differently. `paid` is what the endpoint charges: for each second in which it has a call, or for each call it did not refuse."""

    def __init__(self, nature: Nature, clock: Clock, name: str) -> None:
        self._chance, self._nature, self._refused = random.Random(nature.seed), nature, 0
        limits = Limits(nature.width, patience_s=10**5)
        super().__init__(self._say, clock, limits=limits, seconds=0.0, name=name, dollars_a_second=nature.dollars_a_second)

    async def _say(self, requests: Sequence[Request]) -> list[Outcome]:
        await asyncio.sleep(self._nature.seconds * self._chance.uniform(0.1, 3.0))
        faults = [Fault("down"), Fault("garbled", charged=True), Fault("busy", 5.0)]
        fault = self._chance.choice(faults) if self._chance.random() < self._nature.trouble else None
        self._refused += fault is not None and not fault.charged
        return [fault or text_of(requests[0])]

    @property
    def paid(self) -> float:
        if self._nature.dollars_a_second is None:
            return (len(self.times) - self._refused) * A_CALL
        changes = sorted([(at, 1) for at in self.times] + [(at, -1) for at in self.ends])
        busy, inside = 0.0, 0
        for (at, change), (then, _) in itertools.pairwise(changes):
            inside += change
            busy += then - at if inside else 0.0
        return busy * self._nature.dollars_a_second


by_the_hour_ = st.builds(
    Nature, st.floats(0.001, 0.1), st.floats(0.5, 40.0), st.sampled_from([0.0, 0.3]), st.integers(1, 16), st.integers(0, 99)
)
by_tokens_ = st.builds(Nature, st.none(), st.floats(0.5, 40.0), st.sampled_from([0.0, 0.3]), st.integers(1, 16), st.integers(0, 99))


@given(
    st.lists(by_the_hour_, min_size=1, max_size=2),
    st.lists(by_tokens_, max_size=1),
    st.floats(0.05, 40.0),
    st.lists(st.floats(1, 200), max_size=4),
)
@example([Nature(0.1, 40.0, 0.0, 16, 0)], [], 3.0, [100.0])
@settings(max_examples=40, deadline=None)
def test_no_cap_on_dollars_is_passed_by_time_and_calls_together_restarts_included(tmp_path_factory, hourly, others, cap, kills):
    file = tmp_path_factory.mktemp("hours") / "ledger.sqlite"
    paid = 0.0

    async def process(clock: Clock, after_s: float | None) -> bool:
        """Ask until all is answered, the cap is reached, or the process is killed; whether it was."""
        models = [Moody(nature, clock, f"model {number}") for number, nature in enumerate([*hourly, *others])]
        with Ledger(file) as ledger:
            budget = Budget(Caps(dollars=cap), ledger.spent(), clock=clock)
            streams = [(model, [question(f"{model.name} {number}") for number in range(40)]) for model in models]
            asking = asyncio.create_task(ask_all(streams, ledger, budget=budget))
            await asyncio.wait([asking], timeout=after_s)
            killed = not asking.done()
            if killed:
                keep_what_is_on_disk(file)
                asking.cancel()
            await asyncio.wait([asking])
            nonlocal paid
            paid += sum(model.paid for model in models)
            if not killed and isinstance(asking.exception(), BudgetError):
                slowest = sum(3.0 * nature.seconds * (nature.dollars_a_second or 0.0) for nature in hourly)
                assert (budget.spent.dollars or 0.0) + slowest + (READ + MOST_NEW) * DOLLARS_A_TOKEN * len(others) >= cap
            return killed

    for after_s in (*kills, None):
        killed = run(lambda clock, after_s=after_s: process(clock, after_s))
        if killed:
            restore(file)
    with Ledger(file) as ledger:
        spent = ledger.spent()
    assert paid <= cap + 1e-6
    assert paid <= (spent.dollars or 0.0) + 1e-6
    assert Caps(dollars=cap + 1e-6).passed_by(spent) is None

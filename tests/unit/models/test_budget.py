"""Caps: never passed as the server counts, whatever goes wrong and however often the asking is killed; and used up as far as calls fit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from billing_server import READ_PRICE, WRITTEN_PRICE, Bill, BillingServer
from fake_endpoint import FakeEndpoint, question, text_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from killed_process import keep_what_is_on_disk, restore
from virtual_time import Clock, run

from potstill.errors import BudgetError
from potstill.models.ask import ask_async
from potstill.models.budget import Budget, Caps
from potstill.models.openai_http import OpenAIModel
from potstill.models.throttle import Limits
from potstill.records import Completion, Cost, Message, Request, Sampling
from potstill.spec.sections import TeacherSpec
from potstill.store.ledger import Ledger

ROWS = 120
WIDTH = 64
NOTHING = Cost()


def rows(samples: int) -> list[Request]:
    texts = [f"Row {number}: " + "x" * (number % 40) for number in range(ROWS // samples)]
    return [Request((Message("user", text),), Sampling(12, temperature=1.0), sample) for text in texts for sample in range(samples)]


class Mortal(OpenAIModel):
    """Once it is dead, no call leaves any more, as in a process that was killed."""

    dead = False

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        if self.dead:
            await asyncio.Event().wait()
        return await super().complete(requests)


def teacher(server: BillingServer) -> Mortal:
    price = {"input_per_million": READ_PRICE * 1e6, "output_per_million": WRITTEN_PRICE * 1e6}
    spec = {"model": "billing", "base_url": server.base_url, "max_attempts": 3, "price": price}
    return Mortal(TeacherSpec.model_validate(spec), concurrency=WIDTH, backoff_s=0.001)


async def ask_until_killed(
    server: BillingServer, ledger_file: Path, requests: Sequence[Request], caps: Caps, after_s: float | None
) -> None:
    """Ask; after so many seconds the process is as good as killed: what is not on disk at that moment is lost, and nothing more leaves."""
    with Ledger(ledger_file) as ledger:
        model = teacher(server)
        asking = asyncio.create_task(ask_async(model, requests, ledger, budget=Budget(caps, ledger.spent())))
        try:
            await asyncio.wait([asking], timeout=after_s)
            if not asking.done():
                keep_what_is_on_disk(ledger_file)
                model.dead = True
                asking.cancel()
            await asyncio.wait([asking])
            if not asking.cancelled():
                asking.result()
        finally:
            await model.close()


def within(bill: Bill, caps: Caps) -> bool:
    return (
        (caps.calls is None or bill.calls <= caps.calls)
        and (caps.tokens is None or bill.tokens <= caps.tokens)
        and (caps.dollars is None or bill.dollars <= caps.dollars + 1e-9)
    )


caps_ = st.one_of(
    st.builds(Caps, calls=st.integers(1, 200)),
    st.builds(Caps, tokens=st.integers(100, 12_000)),
    st.builds(Caps, dollars=st.floats(0.5, 60.0)),
    st.builds(Caps, calls=st.integers(1, 200), tokens=st.integers(100, 12_000), dollars=st.floats(0.5, 60.0)),
)
kills_ = st.lists(st.floats(0.01, 0.15), max_size=4)


servers_ = st.fixed_dictionaries(
    {"seed": st.integers(0, 2**16), "trouble": st.sampled_from([0.0, 0.3]), "refuses": st.sampled_from(["", "n", "max_tokens"])}
)


@given(caps_, kills_, servers_, st.sampled_from([1, 4]))
@example(Caps(calls=40), [], {"seed": 0, "trouble": 0.0, "refuses": "max_tokens"}, 1)
@example(Caps(calls=40), [0.03], {"seed": 0, "trouble": 0.3, "refuses": "n"}, 4)
@settings(max_examples=25, deadline=None)
def test_no_cap_is_passed_as_the_server_counts_restarts_included(tmp_path_factory, caps, kills, nature, samples):
    ledger_file = tmp_path_factory.mktemp("budget") / "ledger.sqlite"
    requests = rows(samples)
    with BillingServer(**nature) as server:
        try:
            for after_s in (*kills, None):
                asyncio.run(ask_until_killed(server, ledger_file, requests, caps, after_s))
                restore(ledger_file)
        except BudgetError:
            reached = True
        else:
            reached = False
        assert within(server.bill, caps)
        with Ledger(ledger_file) as ledger:
            # What the ledger says was spent is never less than what the server charges, so the next start keeps the cap as well.
            spent = ledger.spent()
            assert server.bill.calls <= spent.calls
            assert server.bill.tokens <= spent.tokens
            assert server.bill.dollars <= (spent.dollars or 0.0) + 1e-9
            assert caps.passed_by(spent) is None
            if reached:
                most = max((teacher(server).most(request) for request in requests), key=lambda cost: cost.tokens)
                assert caps.passed_by(spent + Cost(most.calls * samples, most.tokens * samples, (most.dollars or 0.0) * samples))


def ask(
    caps: Caps, count: int, *, seconds: float = 1.0, width: int = 4, spent: Cost = NOTHING, before_s: float = 0.0, folder: Path
) -> dict:
    """How asking `count` questions under these caps ends, in virtual time."""

    async def story(clock: Clock) -> dict:
        endpoint = FakeEndpoint(lambda requests: [text_of(r) for r in requests], clock, seconds=seconds, limits=Limits(width))
        with Ledger(folder / "ledger.sqlite") as ledger:
            budget = Budget(caps, spent, before_s, clock=clock)
            try:
                await ask_async(endpoint, [question(str(number)) for number in range(count)], ledger, budget=budget)
                error = None
            except BudgetError as reached:
                error = str(reached)
            totals = ledger.usage()
            return {"calls": len(endpoint.calls), "answered": totals.answered, "orphaned": totals.orphaned, "s": clock(), "error": error}

    return run(story)


def test_a_cap_that_fits_exactly_is_used_to_the_last_call(tmp_path):
    assert ask(Caps(calls=10), 10, folder=tmp_path)["error"] is None
    found = ask(Caps(calls=9), 30, folder=tmp_path / "more")
    assert (found["calls"], found["answered"], found["orphaned"]) == (9, 9, 0)
    assert "the budget of 9 calls is used up" in found["error"]
    assert "9 calls, 45 tokens, $11.2500 so far" in found["error"]
    assert "run the same command again" in found["error"]


def test_what_is_held_and_not_used_is_free_for_others(tmp_path):
    # 11 tokens are held for each call and 5 used: with 50, eight calls fit one after another, though only four at once.
    found = ask(Caps(tokens=50), 30, width=16, folder=tmp_path)
    assert found["calls"] == 8
    assert found["answered"] == 8


def test_what_earlier_processes_spent_counts(tmp_path):
    assert ask(Caps(calls=10), 30, spent=Cost(7, 0, 0.0), folder=tmp_path)["calls"] == 3
    assert ask(Caps(dollars=20.0), 30, spent=Cost(0, 0, 19.0), folder=tmp_path)["calls"] == 0


def test_minutes_end_before_a_call_would_be_cut_off(tmp_path):
    found = ask(Caps(minutes=1), 1000, seconds=7.0, folder=tmp_path)
    assert (found["calls"], found["answered"], found["orphaned"]) == (4 * 8, 4 * 8, 0)
    assert found["s"] <= 60
    assert "the budget of 1 minutes is used up" in found["error"]


def test_a_call_that_is_still_out_when_the_minutes_end_is_left_behind_and_counted_at_its_most(tmp_path):
    found = ask(Caps(minutes=1), 1000, seconds=90.0, folder=tmp_path)
    assert (found["s"], found["answered"], found["orphaned"]) == (60.0, 0, 4)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.spent() == Cost(4, 44, 11.0)


def test_minutes_of_earlier_processes_count(tmp_path):
    found = ask(Caps(minutes=1), 1000, seconds=7.0, before_s=30.0, folder=tmp_path)
    assert found["calls"] == 4 * 4
    assert found["s"] <= 30


def test_an_unknown_price_never_fits_under_a_cap_on_dollars():
    async def story(clock: Clock) -> None:
        with pytest.raises(BudgetError):
            await Budget(Caps(dollars=100.0), clock=clock).hold(Cost(1, 1, None))
        await Budget(Caps(calls=1), clock=clock).hold(Cost(1, 1, None))

    run(story)


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 1), st.floats(0.1, 5)), max_size=60), st.floats(1, 20))
@settings(max_examples=60, deadline=None)
def test_spent_and_held_together_never_pass_the_cap_and_nobody_waits_for_ever(calls, cap):
    async def story(clock: Clock) -> None:
        budget = Budget(Caps(dollars=cap), clock=clock)
        order: list[int] = []

        async def call(number: int, most: float, share: float, seconds: float) -> None:
            held = Cost(1, 0, most)
            try:
                await budget.hold(held)
            except BudgetError:
                return
            order.append(number)
            assert (budget.spent.dollars or 0) + (budget.held.dollars or 0) <= cap + 1e-6
            await asyncio.sleep(seconds)
            budget.settle(held, Cost(1, 0, most * share))

        await asyncio.gather(*(call(number, *rest) for number, rest in enumerate(calls)))
        assert order == sorted(order)
        assert budget.held == Cost()

    run(story)


def test_a_call_that_never_left_costs_nothing(tmp_path):
    async def story(clock: Clock) -> Cost:
        endpoint = FakeEndpoint(lambda requests: ["a"], clock, limits=Limits(2, requests_per_minute=1))
        budget = Budget(Caps(), clock=clock)
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            asking = asyncio.create_task(ask_async(endpoint, [question("a"), question("b")], ledger, budget=budget))
            await asyncio.sleep(random.Random(0).uniform(1, 2))  # one was answered, the other waits for the next minute
            asking.cancel()
            await asyncio.wait([asking])
            assert budget.spent == ledger.spent()
        return budget.spent

    assert run(story) == Cost(1, 5, 1.25)

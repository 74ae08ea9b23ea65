"""What failed for the moment is asked again, by itself where that helps, and never more often than its attempts allow."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest
from fake_endpoint import FakeEndpoint, Outcome, Script, question, text_of
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import Clock, run

from potstill.errors import BudgetError, EndpointError
from potstill.models.ask import ask_all, ask_async
from potstill.models.budget import Budget, Caps
from potstill.models.questions import Answers
from potstill.models.throttle import FIRST_LIMIT, Limits
from potstill.records import Cost, Fault, Request
from potstill.store.ledger import Ledger

BUSY, DOWN, GARBLED, SHORT = Fault("busy"), Fault("down"), Fault("garbled", charged=True), Fault("short")
UNREACHABLE = Fault("down", broken=True)


@pytest.fixture
def ledger(tmp_path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


def ask(script: Script, requests: Sequence[Request], ledger: Ledger, **how: object) -> tuple[FakeEndpoint, Answers]:
    """The endpoint and the answers, after hours of virtual time if need be."""

    async def story(clock: Clock) -> tuple[FakeEndpoint, Answers]:
        endpoint = FakeEndpoint(script, clock, **how)
        return endpoint, await ask_async(endpoint, requests, ledger)

    return run(story)


def echo(requests: Sequence[Request]) -> list[Outcome]:
    return [text_of(request) for request in requests]


def failing_first(times: int, fault: Fault) -> Script:
    """Each question fails so often before it is answered."""
    tries: Counter[tuple[str, int]] = Counter()

    def script(requests: Sequence[Request]) -> list[Outcome]:
        tries.update((text_of(request), request.sample) for request in requests)
        return [fault if tries[text_of(request), request.sample] <= times else text_of(request) for request in requests]

    return script


@pytest.mark.parametrize("fault", [BUSY, DOWN, GARBLED])
@pytest.mark.parametrize("max_attempts", [1, 2, 5])
def test_a_failure_is_final_after_so_many_attempts_and_not_before(ledger, fault, max_attempts):
    endpoint, answers = ask(lambda requests: [fault], [question("a")], ledger, max_attempts=max_attempts)
    assert len(endpoint.calls) == max_attempts
    assert answers.of(question("a")).error == f"after {max_attempts} attempt{'s' if max_attempts > 1 else ''}: it said no"
    endpoint, answers = ask(failing_first(max_attempts - 1, fault), [question("b")], ledger, max_attempts=max_attempts)
    assert len(endpoint.calls) == max_attempts
    assert answers.of(question("b")).text == "b"


def test_what_would_fail_again_is_not_asked_again(ledger):
    endpoint, answers = ask(lambda requests: [None], [question("a")], ledger)
    assert (len(endpoint.calls), answers.failed) == (1, 1)
    assert answers.of(question("a")).error == "it said no"


def test_tries_come_later_and_later_and_never_before_the_endpoint_allows(ledger):
    endpoint, _ = ask(lambda requests: [Fault("down")], [question("a")], ledger, max_attempts=6, seconds=0.0)
    pauses = [after - before for before, after in zip(endpoint.times, endpoint.times[1:], strict=False)]
    for number, pause in enumerate(pauses):
        assert 0.5 * 2**number <= pause <= 1.5 * 2**number
    endpoint, _ = ask(lambda requests: [Fault("busy", 40.0)], [question("b")], ledger, max_attempts=3, seconds=0.0)
    assert all(after - before >= 40.0 for before, after in zip(endpoint.times, endpoint.times[1:], strict=False))


def test_every_try_is_in_the_ledger(ledger):
    ask(failing_first(2, GARBLED), [question(text) for text in "abc"], ledger)
    totals = ledger.usage()
    assert (totals.calls, totals.answered, totals.failed) == (9, 3, 6)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_samples_of_one_question_share_calls_and_no_call_mixes_questions(tmp_path_factory, counts, samples_a_call):
    requests = [question(str(number), sample) for number, count in enumerate(counts) for sample in range(count)]
    with Ledger(tmp_path_factory.mktemp("several") / "ledger.sqlite") as ledger:
        endpoint, answers = ask(echo, requests, ledger, samples_a_call=samples_a_call)
        assert all(len({text for text, _ in call}) == 1 for call in endpoint.calls)
        assert len(endpoint.calls) == sum(-(-count // samples_a_call) for count in counts)
        assert all(answers.of(request).text == text_of(request) for request in requests)
        assert answers.asked == len(requests)


def giving(most: int) -> Script:
    """An endpoint that gives `most` answers a call at most."""
    return lambda requests: [text_of(request) if place < most else SHORT for place, request in enumerate(requests)]


@pytest.mark.parametrize("most", [0, 1, 3])
def test_samples_that_did_not_come_are_asked_for_again_one_by_one_and_at_once(ledger, most):
    def script(requests: Sequence[Request]) -> list[Outcome]:
        return echo(requests) if len(requests) == 1 else giving(most)(requests)  # type: ignore[return-value]

    requests = [question("a", sample) for sample in range(5)]
    endpoint, answers = ask(script, requests, ledger, samples_a_call=8, max_attempts=1)
    assert [len(call) for call in endpoint.calls] == [5] + [1] * (5 - most)
    assert Counter(sample for call in endpoint.calls[1:] for _, sample in call) == Counter(range(most, 5))
    assert [answers.of(request).text for request in requests] == ["a"] * 5
    assert endpoint.times[-1] == pytest.approx(0.5 * (5 - most))


def test_calls_that_waited_while_the_endpoint_turned_out_to_give_one_answer_leave_one_by_one_under_its_rate(ledger):
    def script(requests: Sequence[Request]) -> list[Outcome]:
        return echo(requests) if len(requests) == 1 else [SHORT] * len(requests)

    async def story(clock: Clock) -> FakeEndpoint:
        limits = Limits(64, requests_per_minute=40)
        endpoint = FakeEndpoint(script, clock, samples_a_call=8, limits=limits)
        answers = await ask_async(endpoint, [question(str(row), sample) for row in range(40) for sample in range(8)], ledger)
        assert answers.failed == 0
        return endpoint

    endpoint = run(story)
    assert sum(len(call) > 1 for call in endpoint.calls) <= FIRST_LIMIT
    # Each minute is full: what did not leave takes nobody's place.
    assert len([at for at in endpoint.times if at < 59]) == 40


def test_a_call_that_did_not_tell_its_tokens_counts_for_the_rate_as_likely_not_as_the_most(ledger):
    async def story(clock: Clock) -> FakeEndpoint:
        endpoint = FakeEndpoint(lambda requests: [GARBLED], clock, limits=Limits(1, tokens_per_minute=1000), max_attempts=1)
        endpoint.likely, endpoint.most = lambda request: 100, lambda request: Cost(1, 900, 0.0)  # type: ignore[method-assign]
        await ask_async(endpoint, [question(str(number)) for number in range(10)], ledger)
        return endpoint

    assert run(story).times[-1] < 59


def test_samples_that_fail_together_are_tried_again_together(ledger):
    requests = [question("a", sample) for sample in range(4)]
    endpoint, answers = ask(failing_first(1, BUSY), requests, ledger, samples_a_call=4)
    assert [len(call) for call in endpoint.calls] == [4, 4]
    assert answers.failed == 0


def outage(clock: Callable[[], Clock], start: float, end: float, fault: Fault) -> Script:
    return lambda requests: [fault if start <= clock()() < end else text_of(request) for request in requests]


@pytest.mark.parametrize("fault", [BUSY, DOWN, UNREACHABLE])
@pytest.mark.parametrize("width", [1, 16, 64])
def test_an_outage_costs_no_row_its_attempts(ledger, fault, width):
    """A thousand seconds without an answer, and patience for them: every row has its answer in the end."""
    clocks: list[Clock] = []
    requests = [question(str(number)) for number in range(300)]

    async def story(clock: Clock) -> tuple[FakeEndpoint, Answers]:
        clocks.append(clock)
        # As many attempts as one row alone may lose before it is known that the endpoint fails for all.
        endpoint = FakeEndpoint(outage(lambda: clocks[0], 1.1, 1000, fault), clock, limits=Limits(width, patience_s=1500), max_attempts=9)
        return endpoint, await ask_async(endpoint, requests, ledger)

    endpoint, answers = run(story)
    assert (answers.asked, answers.failed) == (300, 0)
    assert len([at for at in endpoint.times if 10 < at < 1000]) < 100


def test_an_outage_that_outlasts_patience_stops_the_run_and_fails_no_row(tmp_path):
    requests = [question(str(number)) for number in range(300)]
    clocks: list[Clock] = []

    async def story(clock: Clock) -> float:
        clocks.append(clock)
        endpoint = FakeEndpoint(outage(lambda: clocks[0], 2, 10**9, DOWN), clock, limits=Limits(16, patience_s=300), max_attempts=3)
        with pytest.raises(EndpointError, match="nothing but failures"):
            await ask_async(endpoint, requests, ledger)
        return clock()

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert 300 <= run(story) < 400
        answered = ledger.usage().answered
    assert answered > 0
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        again, _ = ask(echo, requests, ledger)
    assert len(again.calls) == 300 - answered


def poisoned(requests: Sequence[Request]) -> list[Outcome]:
    return [DOWN if text_of(request).startswith("poison") else text_of(request) for request in requests]


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize(("count", "width"), [(1, 4), (2, 4), (5, 4), (5, 64), (40, 64)])
def test_rows_that_always_fail_are_their_own_failures_and_stop_neither_this_run_nor_the_next(tmp_path, place, count, width):
    poison, sound = [question(f"poison {number}") for number in range(count)], [question(str(number)) for number in range(50)]
    requests = poison + sound if place == "first" else sound + poison
    for asked in (50 + count, count):
        with Ledger(tmp_path / "ledger.sqlite") as ledger:
            _, answers = ask(poisoned, requests, ledger, max_attempts=6, limits=Limits(width, patience_s=300))
            assert (answers.asked, answers.failed) == (asked, count)
            for row in poison:
                assert re.fullmatch(r"after [1-6] attempts?: it said no", str(answers.of(row).error))


@pytest.mark.parametrize("count", [5, 40])
def test_rows_that_always_fail_hold_the_end_up_for_hardly_longer_than_patience(ledger, count):
    async def story(clock: Clock) -> float:
        endpoint = FakeEndpoint(poisoned, clock, max_attempts=6, limits=Limits(64, patience_s=300))
        requests = [question(str(number)) for number in range(50)] + [question(f"poison {number}") for number in range(count)]
        await ask_async(endpoint, requests, ledger)
        return clock()

    assert run(story) < 300 + 120


def test_where_no_row_was_ever_answered_failures_are_nobodys_own_doing(ledger):
    with pytest.raises(EndpointError, match="nothing but failures"):
        ask(poisoned, [question(f"poison {number}") for number in range(40)], ledger, max_attempts=6, limits=Limits(64))


def test_an_endpoint_that_never_was_there_stops_the_run_after_a_row_s_attempts(ledger):
    async def story(clock: Clock) -> float:
        endpoint = FakeEndpoint(lambda requests: [UNREACHABLE], clock, max_attempts=3)
        with pytest.raises(EndpointError, match="fake: after 3 attempts: it said no"):
            await ask_async(endpoint, [question(str(number)) for number in range(50)], ledger)
        return clock()

    assert run(story) < 30


def test_a_cap_that_one_model_meets_stops_the_others_without_losing_what_is_in_flight(ledger):
    async def story(clock: Clock) -> tuple[FakeEndpoint, FakeEndpoint]:
        quick = FakeEndpoint(echo, clock, name="quick", seconds=1.0, limits=Limits(2))
        slow = FakeEndpoint(echo, clock, name="slow", seconds=60.0, limits=Limits(2))
        streams = [(model, [question(f"{model.name} {number}") for number in range(100)]) for model in (quick, slow)]
        with pytest.raises(BudgetError, match="10 calls"):
            await ask_all(streams, ledger, budget=Budget(Caps(calls=10), clock=clock))
        return quick, slow

    quick, slow = run(story)
    assert (len(quick.calls), len(slow.calls)) == (8, 2)
    totals = ledger.usage()
    assert (totals.answered, totals.orphaned) == (10, 0)


def test_no_call_leaves_after_the_minutes_because_it_waited_for_its_turn(ledger):
    async def story(clock: Clock) -> FakeEndpoint:
        endpoint = FakeEndpoint(echo, clock, limits=Limits(2, requests_per_minute=1), seconds=10.0)
        with pytest.raises(BudgetError, match=r"1\.05 minutes"):
            await ask_async(endpoint, [question(str(number)) for number in range(9)], ledger, None, Budget(Caps(minutes=1.05), clock=clock))
        return endpoint

    assert run(story).times == [0.0]
    assert ledger.usage().orphaned == 0

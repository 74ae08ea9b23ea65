"""Asking: equal questions are one, batches follow from the requests alone, and what has arrived is never lost."""

import asyncio
import dataclasses
import os
import random
import signal
import threading
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import BudgetError, DataError, EndpointError, StoreError
from potstill.models.ask import ask, ask_all, ask_async
from potstill.models.asking import SINGLE_WINDOW
from potstill.models.base import Capabilities
from potstill.models.budget import Budget, Caps
from potstill.models.questions import plan_batches, request_key
from potstill.records import Completion, Message, Request, Sampling, Usage
from potstill.store.events import EventLog, Progressed
from potstill.store.ledger import Ledger


class Fake:
    """Answers with the last turn, backwards; `hook` is awaited first. Every batch that was asked is in `batches`."""

    capabilities = Capabilities()

    def __init__(self, *, batch_size: int = 1, concurrency: int = 1, hook: Callable | None = None, name: str = "fake", identity: str = "1"):
        self.name, self.identity = name, identity
        self.batch_size, self.concurrency = batch_size, concurrency
        self.batches: list[list[str]] = []
        self.in_flight = self.most_in_flight = 0
        self._hook = hook

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        self.batches.append([request.messages[-1].content for request in requests])
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self._hook is not None:
                await self._hook(requests)
        finally:
            self.in_flight -= 1
        return [Completion(request.messages[-1].content[::-1], "stop", Usage(2, 1), model=self.name) for request in requests]

    @property
    def asked(self) -> list[str]:
        return [text for batch in self.batches for text in batch]

    def dollars(self, completion: Completion) -> float | None:
        return 0.5

    async def close(self) -> None:
        raise AssertionError("closing is the caller's")


def question(text: str, sample: int = 0) -> Request:
    return Request((Message("user", text),), Sampling(max_new_tokens=8), sample)


def questions(count: int) -> list[Request]:
    return [question("q" * (1 + number % 7) + str(number)) for number in range(count)]


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


samplings = st.builds(
    Sampling,
    max_new_tokens=st.integers(1, 9),
    temperature=st.sampled_from([0.0, 0.5, 1.0]),
    top_p=st.sampled_from([0.9, 1.0]),
    stop=st.sampled_from([(), ("\n",), ("a", "b"), ("ab",)]),
    seed=st.integers(0, 3),
)
messages = st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), st.text(max_size=3)), min_size=1, max_size=3)
requests_ = st.builds(Request, messages.map(tuple), samplings, st.integers(0, 2))
models = st.builds(Fake, name=st.sampled_from(["a", "b"]), identity=st.sampled_from(["a", "b"]))


@given(models, requests_, models, requests_)
@settings(max_examples=300, deadline=None)
def test_keys_are_equal_exactly_where_model_and_request_are(model, request, other_model, other_request):
    same = (model.identity, request) == (other_model.identity, other_request)
    assert (request_key(model, request) == request_key(other_model, other_request)) == same


@given(requests_, st.data())
@settings(deadline=None)
def test_the_key_changes_with_every_field_of_request_and_sampling(request, data):
    fresh = {"max_new_tokens": 77, "temperature": 0.77, "top_p": 0.77, "stop": ("never",), "seed": 77}
    assert set(fresh) == {field.name for field in dataclasses.fields(Sampling)}
    name = data.draw(st.sampled_from(sorted(fresh)))
    changed = [
        dataclasses.replace(request, sampling=dataclasses.replace(request.sampling, **{name: fresh[name]})),
        dataclasses.replace(request, sample=77),
        dataclasses.replace(request, messages=(*request.messages, Message("user", ""))),
        dataclasses.replace(request, messages=(Message("system", "Be brief."), *request.messages)),
    ]
    keys = {request_key(Fake(), each) for each in (request, *changed)}
    assert len(keys) == 5


def test_a_key_is_the_same_in_every_version_of_potstill():
    assert request_key(Fake(), question("Hello?")) == "8891f0c86045b0e159b5b39c620259b6c4464ef17d3575650ba96e829708f1e0"


def test_every_request_has_its_answer_in_the_ledger(ledger):
    requests = questions(100)
    answers = ask(Fake(concurrency=8), requests, ledger)
    assert (answers.asked, answers.failed, answers.stood) == (100, 0, 0)
    assert (answers.usage, answers.dollars) == (Usage(200, 100), 50.0)
    for request in requests:
        assert answers.of(request).text == request.messages[-1].content[::-1]


def test_equal_requests_are_asked_once_within_and_across_windows(ledger):
    model = Fake(concurrency=3)
    requests = [question(str(number % 10)) for number in range(3 * SINGLE_WINDOW)]
    answers = ask(model, requests, ledger)
    assert sorted(model.asked) == sorted(set(model.asked))
    assert (answers.asked, answers.stood) == (10, len(requests) - 10)


def test_another_sample_of_a_question_is_another_question(ledger):
    model = Fake()
    ask(model, [question("a", 0), question("a", 1)], ledger)
    assert model.asked == ["a", "a"]


def test_what_was_answered_is_not_asked_again(ledger):
    ask(Fake(), questions(10), ledger)
    model = Fake()
    answers = ask(model, questions(15), ledger)
    assert model.asked == [request.messages[-1].content for request in questions(15)[10:]]
    assert (answers.asked, answers.stood) == (5, 10)


def test_nothing_to_ask_is_answered_by_nothing(ledger):
    assert ask(Fake(), [], ledger).asked == 0


def test_no_more_calls_are_in_flight_than_the_model_takes(ledger):
    async def wait(_):
        await asyncio.sleep(0.001)

    model = Fake(concurrency=5, hook=wait)
    ask(model, questions(60), ledger)
    assert model.most_in_flight == 5


def test_requests_are_taken_no_faster_than_they_are_answered(ledger):
    taken = 0

    def endless():
        nonlocal taken
        for number in range(10 * SINGLE_WINDOW):
            taken += 1
            yield question(str(number))

    ahead = []

    async def note(_):
        ahead.append(taken - len(model.batches))

    model = Fake(concurrency=4, hook=note)
    ask(model, endless(), ledger)
    assert max(ahead) <= SINGLE_WINDOW + 2 * model.concurrency


def test_an_intent_is_on_disk_before_its_call_leaves_and_no_answer_is_older_than_the_next_intent(ledger):
    async def look(requests):
        totals = ledger.usage()
        # Whatever came back from this one worker before is committed, and this very call is known.
        assert totals.answered == len(model.batches) - 1
        assert totals.calls == len(model.batches)

    model = Fake(hook=look)
    ask(model, questions(20), ledger)


def test_batches_are_of_like_length_longest_first(ledger):
    model = Fake(batch_size=4)
    requests = [question("x" * length) for length in random.Random(0).sample(range(1, 100), 22)]
    ask(model, requests, ledger)
    lengths = [len(text) for text in model.asked]
    assert lengths == sorted(lengths, reverse=True)
    assert [len(batch) for batch in model.batches] == [4, 4, 4, 4, 4, 2]


def test_a_model_that_measures_its_requests_has_the_word_on_length(ledger):
    class Measuring(Fake):
        def length(self, request: Request) -> int:
            return int(request.messages[-1].content)

    model = Measuring(batch_size=2)
    ask(model, [question(text) for text in ("9", "10", "0000001", "500")], ledger)
    assert model.batches == [["500", "10"], ["9", "0000001"]]


@given(st.lists(st.text(max_size=8), min_size=1, max_size=30), st.integers(2, 5), st.randoms())
@settings(max_examples=50, deadline=None)
def test_the_plan_does_not_hang_on_the_order_of_a_window(texts, batch_size, shuffler):
    requests = [question(text) for text in texts]
    shuffled = list(requests)
    shuffler.shuffle(shuffled)
    model = Fake(batch_size=batch_size)
    assert plan_batches(model, requests) == plan_batches(model, shuffled)


@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 8))
@settings(max_examples=30, deadline=None)
def test_a_run_that_was_stopped_makes_the_batches_of_one_that_was_not(tmp_path_factory, count, batch_size, stop_after):
    folder = tmp_path_factory.mktemp("ask")
    requests = questions(count)
    whole = Fake(batch_size=batch_size)
    with Ledger(folder / "whole.sqlite") as ledger:
        ask(whole, requests, ledger)

    async def stop(_):
        if len(first.batches) > stop_after:
            raise EndpointError("no more")

    first, second = Fake(batch_size=batch_size, hook=stop), Fake(batch_size=batch_size)
    with Ledger(folder / "cut.sqlite") as ledger:
        if stop_after < len(whole.batches):
            with pytest.raises(EndpointError):
                ask(first, requests, ledger)
            answered = first.batches[:-1]
        else:
            ask(first, requests, ledger)
            answered = first.batches
        ask(second, requests, ledger)
    assert answered + second.batches == whole.batches


def test_of_a_batch_that_stands_in_part_the_rest_alone_is_asked(ledger):
    requests = [question("x" * length) for length in range(1, 9)]
    ask(Fake(batch_size=8), requests[3:5], ledger)
    model = Fake(batch_size=4)
    ask(model, requests, ledger)
    assert [[len(text) for text in batch] for batch in model.batches] == [[8, 7, 6], [3, 2, 1]]


def test_a_failed_call_is_data(ledger):
    class Failing(Fake):
        async def complete(self, requests: Sequence[Request]) -> list[Completion]:
            return [
                Completion("", "error", error="busy") if "3" in r.messages[-1].content else (await Fake().complete([r]))[0]
                for r in requests
            ]

    answers = ask(Failing(), questions(10), ledger)
    assert (answers.asked, answers.failed) == (10, 1)
    assert answers.of(questions(10)[3]).error == "busy"


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_broken_contract_stops_everything_and_keeps_what_had_arrived(ledger, concurrency):
    async def refuse(requests):
        if len(model.batches) == 10:
            raise EndpointError("401: the key is not valid")
        if len(model.batches) > 10:
            await asyncio.sleep(60)

    model = Fake(concurrency=concurrency, hook=refuse)
    with pytest.raises(EndpointError, match="the key is not valid"):
        ask(model, questions(100), ledger)
    assert len(model.batches) < 10 + concurrency
    assert ledger.usage().answered == 9
    other = Fake()
    ask(other, questions(100), ledger)
    assert len(other.asked) == 91


def test_rows_that_cannot_be_read_stop_everything_and_keep_what_had_arrived(ledger):
    def torn():
        yield from questions(2 * SINGLE_WINDOW)
        raise DataError("the row is torn")

    with pytest.raises(DataError, match="torn"):
        ask(Fake(), torn(), ledger)
    assert ledger.usage().answered > 0


def test_a_ledger_that_fails_stops_everything(ledger):
    async def fail(_):
        if len(model.batches) == 5:
            ledger.close()

    model = Fake(concurrency=2, hook=fail)
    with pytest.raises(Exception, match="closed") as caught:
        ask(model, questions(50), ledger)
    assert not isinstance(caught.value, StoreError)
    assert len(model.batches) <= 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_asking_as_an_interrupt_and_keeps_what_had_arrived(ledger, number):
    async def interrupt(_):
        if len(model.batches) == 10:
            os.kill(os.getpid(), number)
        if len(model.batches) >= 10:
            await asyncio.sleep(60)

    before = signal.getsignal(signal.SIGTERM)
    model = Fake(concurrency=2, hook=interrupt)
    with pytest.raises(KeyboardInterrupt):
        ask(model, questions(50), ledger)
    assert signal.getsignal(signal.SIGTERM) == before
    totals = ledger.usage()
    assert totals.answered == 9
    assert 1 <= totals.orphaned <= model.concurrency
    assert totals.calls == totals.answered + totals.orphaned
    again = Fake()
    ask(again, questions(50), ledger)
    assert len(again.asked) == 50 - totals.answered


def test_a_cancelled_ask_keeps_what_had_arrived(ledger):
    async def scenario():
        async def block(_):
            if len(model.batches) > 7:
                await asyncio.sleep(60)

        nonlocal model
        model = Fake(hook=block)
        task = asyncio.create_task(ask_async(model, questions(50), ledger))
        while len(model.batches) <= 7:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    model = Fake()
    asyncio.run(scenario())
    assert ledger.usage().answered == 7


def test_asking_works_in_a_thread_that_may_not_touch_signals(tmp_path):
    found = []

    def work():
        with Ledger(tmp_path / "thread.sqlite") as ledger:
            found.append(ask(Fake(), questions(3), ledger).asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [3]


def test_a_budget_that_is_used_up_does_not_call_off_what_another_model_was_asked(ledger):
    async def wait(_):
        await asyncio.sleep(0.05)

    async def both():
        await ask_all([(slow, [question("slow")]), (quick, questions(20))], ledger, budget=Budget(Caps(calls=5)))

    slow, quick = Fake(hook=wait, identity="slow"), Fake(identity="quick")
    with pytest.raises(BudgetError):
        asyncio.run(both())
    totals = ledger.usage()
    assert (totals.answered, totals.orphaned) == (5, 0)
    assert slow.asked == ["slow"]


def test_progress_counts_every_request_and_all_dollars_of_the_ledger(ledger):
    ask(Fake(), questions(4), ledger)
    events = []
    with EventLog(listeners=(events.append,)).progress("teacher answers", 12, "answers") as progress:
        ask(Fake(), [*questions(10), *questions(2)], ledger, progress)
    last = events[-1]
    assert isinstance(last, Progressed)
    assert (last.done, last.total, last.dollars) == (12, 12, 5.0)


def test_answers_that_stand_tell_nothing_of_the_rate():
    events = []
    with EventLog(listeners=(events.append,)).progress("teacher answers", 100, "answers") as progress:
        progress.skip(100)
    assert (events[-1].done, events[-1].rate) == (100, 0.0)

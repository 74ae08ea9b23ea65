"""Throughput is what a closed loop of so many requests gets answered, and an endpoint is asked no more than rates and budget allow."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.evaluation.latency import Timed
from potstill.evaluation.levels import affordable_levels, level_size
from potstill.evaluation.throughput import Batch, one_at_a_time, serve_batches, serve_calls, served_alike
from potstill.models.budget import Budget, Caps
from potstill.models.echo import EchoModel
from potstill.models.load import load_teacher
from potstill.models.testing import OpenAIStub
from potstill.records import Completion, Message, Request, Sampling
from potstill.spec import GenerationSpec, RunSpec, TeacherSpec
from potstill.store.events import EventLog
from potstill.store.ledger import Ledger


def requests(count):
    """Questions of one request each."""
    return [(Request((Message("user", f"word {number}"),), Sampling(max_new_tokens=4)),) for number in range(count)]


class Slow(EchoModel):
    """A batch takes a tenth of a second for each request in it and a second besides; `now` is the clock."""

    def __init__(self):
        super().__init__()
        self.now, self.batches = 0.0, []

    async def complete(self, requests):
        self.now += 1.0 + 0.1 * len(requests)
        self.batches.append([request.messages[-1].content for request in requests])
        return await super().complete(requests)


def serve(model, asked, concurrency, **settings):
    """The level of a model that is measured by itself; None where it answered nothing."""
    batches = asyncio.run(serve_batches(model, asked, concurrency, clock=lambda: model.now, **settings))
    return next(iter(served_alike({"it": {concurrency: batches}})["it"]), None)


@given(concurrency=st.integers(1, 32), rows=st.integers(1, 40), questions=st.integers(1, 40))
def test_as_many_requests_as_are_in_flight_are_one_batch_and_wait_for_it(concurrency, rows, questions):
    model, asked = Slow(), requests(questions)
    level = serve(model, asked, concurrency, rows=rows, longest_s=1e9).to_json()
    assert {len(batch) for batch in model.batches} == {concurrency}
    assert rows <= level["n"] == level_size(concurrency, rows) < rows + concurrency
    assert [text for batch in model.batches for text in batch] == [f"word {number % questions}" for number in range(level["n"])]
    a_batch = 1.0 + 0.1 * concurrency
    assert level["requests_per_s"] == pytest.approx(concurrency / a_batch)
    assert level["tokens_per_s"] == pytest.approx(2 * concurrency / a_batch)
    assert [level["p50_s"], level["p95_s"]] == pytest.approx([a_batch, a_batch])


@pytest.mark.parametrize(("longest_s", "batches"), [(0.0, 1), (1.2, 1), (1.3, 2), (3.0, 3), (1e9, 8)])
def test_a_slow_model_ends_with_the_batch_in_which_the_time_has_passed(longest_s, batches):
    model = Slow()
    assert serve(model, requests(3), 2, rows=16, longest_s=longest_s).to_json()["n"] == 2 * batches


def test_a_question_of_several_calls_is_one_request_that_waits_for_them_all():
    model, (first, second, third) = Slow(), (one for (one,) in requests(3))
    level = serve(model, [(first, second), (third,)], 2, rows=2, longest_s=1e9)
    assert model.batches == [["word 0", "word 2"], ["word 1"]]
    assert [answer.seconds for answer in level.answers] == pytest.approx([2.3, 2.3])
    assert [answer.tokens for answer in level.answers] == [4, 2]
    assert level.to_json()["requests_per_s"] == pytest.approx(2 / 2.3)


@given(st.lists(st.lists(st.floats(0.1, 5.0), min_size=1, max_size=8), min_size=1, max_size=4))
def test_all_systems_are_compared_on_the_batches_that_the_slowest_came_to(seconds):
    batches = {f"system {place}": {2: [Batch(one, (3, 5)) for one in found]} for place, found in enumerate(seconds)}
    common = min(map(len, seconds))
    for found, [served] in zip(seconds, served_alike(batches).values(), strict=True):
        level = served.to_json()
        assert level["n"] == 2 * common
        assert level["requests_per_s"] == pytest.approx(2 * common / sum(found[:common]))
        assert level["tokens_per_s"] == pytest.approx(4 * level["requests_per_s"])


def test_requests_that_fail_are_no_throughput():
    class Half(Slow):
        async def complete(self, requests):
            _, *others = await super().complete(requests)
            return [Completion("", "error", error="no room"), *others]

    class Never(Slow):
        async def complete(self, requests):
            return [Completion("", "error", error="no room") for _ in await super().complete(requests)]

    assert serve(Half(), requests(2), 2, rows=4).to_json()["n"] == 2
    assert serve(Never(), requests(2), 2, rows=4) is None


def test_one_request_in_flight_is_what_latency_was_measured_with():
    level = one_at_a_time([Timed(1.0, 3), Timed(3.0, 5)]).to_json()
    assert level == {"concurrency": 1, "requests_per_s": 0.5, "tokens_per_s": 2.0, "p50_s": 2.0, "p95_s": 2.9, "n": 2}


def test_an_endpoint_has_so_many_calls_in_flight_and_each_is_paid_once(tmp_path):
    with OpenAIStub(delay_s=0.1) as stub:
        spec = TeacherSpec(model="m", base_url=stub.base_url, price={"input_per_million": 1, "output_per_million": 1})

        def measure():
            async def story():
                model = load_teacher(spec, GenerationSpec(concurrency=4))
                progress = EventLog().progress("calls", 8, "answers").__enter__()
                with Ledger(tmp_path / "ledger.sqlite") as ledger:
                    budget = Budget(Caps(calls=8), ledger.spent())
                    try:
                        return await serve_calls(model, requests(3), 4, rows=7, ledger=ledger, budget=budget, progress=progress)
                    finally:
                        await model.close()

            return asyncio.run(story())

        first, again = measure(), measure()
    assert len(stub.calls) == 8
    assert stub.most_at_once == 4
    assert first == again
    level = first.to_json()
    assert level["p50_s"] >= 0.1
    assert 10 < level["requests_per_s"] <= 40


@given(
    levels=st.lists(st.integers(1, 64), max_size=6),
    rows=st.integers(1, 40),
    concurrency=st.integers(1, 64),
    a_minute=st.tuples(st.none() | st.integers(1, 300), st.none() | st.integers(1, 10_000)),
    steps=st.integers(1, 3),
)
def test_an_endpoint_s_levels_fit_into_its_rates_of_a_minute(levels, rows, concurrency, a_minute, steps):
    calls, tokens = a_minute
    spec = RunSpec.model_validate(
        {
            "name": "n",
            "task": {"type": "summarization"},
            "data": {"train": "t"},
            "teacher": {"model": "m", "base_url": "http://h/v1", "requests_per_minute": calls, "tokens_per_minute": tokens},
            "student": {"model": "s"},
            "generation": {"concurrency": concurrency},
            "evaluation": {"concurrency": levels, "throughput_rows": rows},
        }
    )
    found = affordable_levels(spec, spec.teacher, 20, steps)
    asked = steps * sum(level_size(level, rows) for level in found)
    assert found == sorted(set(found) & {level for level in levels if 1 < level <= concurrency})
    assert calls is None or asked <= calls
    assert tokens is None or 20 * asked <= tokens
    if calls is None and tokens is None:
        assert found == sorted({level for level in levels if 1 < level <= concurrency})

"""Asking by batches: half the price, the same answers, and no batch lost or handed in twice, whatever happens in between."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from potstill.errors import BudgetError, EndpointError, StoreError
from potstill.models import openai_batches
from potstill.models.ask import ask_all, ask_async
from potstill.models.batch import ask_batched, by_batches
from potstill.models.batch_parts import batch_price
from potstill.models.budget import Budget, Caps
from potstill.models.echo import EchoModel
from potstill.models.openai_batches import METADATA
from potstill.models.openai_http import OpenAIModel
from potstill.models.questions import Answers, request_key
from potstill.models.testing import LOST_REPLY, RESET, TORN_JSON, Fault, OpenAIStub, refused
from potstill.models.testing_batches import BatchPlan
from potstill.records import Completion, Cost, Message, Request, Sampling, Usage
from potstill.spec.sections import PriceSpec, TeacherSpec
from potstill.store.events import EventLog, Progress, Progressed
from potstill.store.ledger import Ledger

PRICE = PriceSpec(input_per_million=1e6, output_per_million=2e6)  # a dollar a token read, two a token written
POLL_S = 0.01


def question(text: str, sample: int = 0) -> Request:
    return Request((Message("user", text),), Sampling(max_new_tokens=8, temperature=1.0), sample)


def questions(count: int) -> list[Request]:
    return [question(f"question {number}") for number in range(count)]


def model_of(stub: OpenAIStub, **settings: object) -> OpenAIModel:
    spec = {"model": "small", "base_url": stub.base_url, "max_attempts": 3, "patience_minutes": 0.0, "price": PRICE, **settings}
    return OpenAIModel(TeacherSpec.model_validate(spec), backoff_s=0.001)


@contextlib.contextmanager
def ledger_at(folder: Path, run: str = "") -> Iterator[Ledger]:
    with Ledger(folder / "ledger.sqlite", run) as ledger:
        yield ledger


def ask(
    stub: OpenAIStub,
    requests: Sequence[Request],
    ledger: Ledger,
    *,
    progress: Progress | None = None,
    budget: Budget | None = None,
    **settings: object,
) -> Answers:
    async def run() -> Answers:
        model = model_of(stub, **settings)
        try:
            return await ask_batched(model, requests, ledger, progress, budget, poll_s=POLL_S)
        finally:
            await model.close()

    return asyncio.run(run())


def texts(answers: Answers, requests: Sequence[Request]) -> list[str]:
    return [answers.of(request).text for request in requests]


def states(ledger: Ledger) -> tuple[int, int, int]:
    """Answered, failed, orphaned."""
    totals = ledger.usage()
    assert totals.calls == totals.answered + totals.failed + totals.orphaned, "something is still in flight"
    return totals.answered, totals.failed, totals.orphaned


def bought(stub: OpenAIStub) -> Counter[str]:
    """How often each question was answered, or would have been."""
    return Counter(key for keys in stub.desk.asked for key in keys)


def test_a_batch_asks_as_calls_ask_and_brings_the_same_answers(tmp_path: Path) -> None:
    requests = [*questions(5), question("question 0", sample=1)]

    async def live(ledger: Ledger) -> list[Completion]:
        model = model_of(stub, several=False)
        answers = await ask_async(model, requests, ledger)
        await model.close()
        return [answers.of(request) for request in requests]

    with OpenAIStub() as stub, ledger_at(tmp_path / "batched") as ours, ledger_at(tmp_path / "live") as theirs:
        answers = ask(stub, requests, ours)
        batched, called = [answers.of(request) for request in requests], asyncio.run(live(theirs))
        assert sorted(json.dumps(line["body"]) for line in stub.desk.batches[0].lines) == sorted(map(json.dumps, stub.calls))
    assert [replace(answer, latency_s=0.0) for answer in batched] == [replace(answer, latency_s=0.0) for answer in called]


def test_every_request_is_answered_at_half_the_price(tmp_path: Path) -> None:
    requests = questions(20)
    with OpenAIStub() as stub, ledger_at(tmp_path) as ledger:
        answers = ask(stub, requests, ledger)
        assert (answers.asked, answers.failed, answers.stood, answers.passed_over) == (20, 0, 0, 0)
        assert texts(answers, requests) == [f"question {number}" for number in range(20)]
        assert answers.usage == Usage(40, 40)
        assert answers.dollars == ledger.dollars() == 0.5 * (40 + 2 * 40)
        assert states(ledger) == (20, 0, 0)
        assert len(stub.desk.batches) == 1


def test_of_several_models_those_behind_endpoints_are_asked_by_batches_and_others_in_calls(tmp_path: Path) -> None:
    async def both() -> list[Answers]:
        model = model_of(stub)
        way = functools.partial(by_batches, poll_s=POLL_S)
        try:
            return await ask_all([(model, questions(3)), (EchoModel(), questions(4))], ledger, way=way)
        finally:
            await model.close()

    with OpenAIStub() as stub, ledger_at(tmp_path) as ledger:
        assert [answers.asked for answers in asyncio.run(both())] == [3, 4]
        assert [len(keys) for keys in stub.desk.asked] == [3]
        assert stub.calls == []


def test_what_is_answered_is_not_asked_again_and_equal_requests_are_one(tmp_path: Path) -> None:
    with OpenAIStub() as stub, ledger_at(tmp_path) as ledger:
        ask(stub, questions(5), ledger)
        answers = ask(stub, [*questions(8), *questions(8)], ledger)
        assert (answers.asked, answers.stood) == (3, 13)
        assert set(bought(stub).values()) == {1}


def test_nothing_to_ask_hands_nothing_in(tmp_path: Path) -> None:
    with OpenAIStub() as stub, ledger_at(tmp_path) as ledger:
        assert ask(stub, [], ledger).asked == 0
        assert stub.desk.batches == []


def test_lines_come_in_any_order_and_what_answers_nothing_is_passed_over_and_counted(tmp_path: Path) -> None:
    requests = questions(30)
    plan = BatchPlan(shuffled=True, duplicated=True, strangers=4)
    with OpenAIStub(batches=[plan]) as stub, ledger_at(tmp_path) as ledger:
        answers = ask(stub, requests, ledger)
        assert texts(answers, requests) == [f"question {number}" for number in range(30)]
        assert (answers.asked, answers.passed_over) == (30, 34)
        assert states(ledger) == (30, 0, 0)


def test_a_row_that_fails_for_good_keeps_the_providers_reason(tmp_path: Path) -> None:
    requests = questions(4)
    with OpenAIStub(batches=[BatchPlan(line_errors={2: (400, "prompt too long")})]) as stub, ledger_at(tmp_path) as ledger:
        answers = ask(stub, requests, ledger)
        assert (answers.asked, answers.failed) == (4, 1)
        assert answers.of(requests[2]).error == "400: prompt too long"
        assert states(ledger) == (3, 1, 0)
        assert len(stub.desk.batches) == 1


def test_a_row_whose_failure_may_pass_is_asked_again_in_another_batch(tmp_path: Path) -> None:
    requests = questions(4)
    with OpenAIStub(batches=[BatchPlan(line_errors={1: (500, "oops")})]) as stub, ledger_at(tmp_path) as ledger:
        answers = ask(stub, requests, ledger)
        assert (answers.asked, answers.failed) == (4, 0)
        assert [len(keys) for keys in stub.desk.asked] == [4, 1]
        assert states(ledger) == (4, 1, 0)


def test_a_row_that_never_comes_through_says_how_often_it_was_tried(tmp_path: Path) -> None:
    requests = questions(2)
    bad = BatchPlan(line_errors={0: (503, "overloaded")})
    with OpenAIStub(batches=[bad, bad, bad]) as stub, ledger_at(tmp_path) as ledger:
        answers = ask(stub, requests, ledger)
        assert answers.of(requests[0]).error == "after 3 attempts: 503: overloaded"
        assert (answers.asked, answers.failed, len(stub.desk.batches)) == (2, 1, 3)


@pytest.mark.parametrize("silent", [False, True])
def test_of_an_expired_batch_the_finished_part_is_kept_and_the_rest_alone_is_asked_again(silent: bool, tmp_path: Path) -> None:
    requests = questions(10)
    plan = BatchPlan(("in_progress", "expired"), answered=6, silent=silent)
    with OpenAIStub(batches=[plan]) as stub, ledger_at(tmp_path) as ledger:
        answers = ask(stub, requests, ledger)
        assert texts(answers, requests) == [f"question {number}" for number in range(10)]
        first, second = stub.desk.asked
        assert second == first[6:]
        assert answers.dollars == ledger.spent().dollars == 0.5 * (20 + 2 * 20)


def test_a_batch_that_always_expires_ends_as_a_reason(tmp_path: Path) -> None:
    requests = questions(2)
    with OpenAIStub(batches=[BatchPlan(("expired",), answered=0, silent=True)] * 3) as stub, ledger_at(tmp_path) as ledger:
        answers = ask(stub, requests, ledger)
        assert answers.failed == 2
        assert answers.of(requests[0]).error == "after 3 attempts: the batch expired before this was answered"
        assert ledger.spent().dollars == 0.0


def test_a_row_without_a_line_in_a_completed_batch_may_have_been_charged(tmp_path: Path) -> None:
    requests = questions(3)
    with OpenAIStub(batches=[BatchPlan(answered=2, silent=True)]) as stub, ledger_at(tmp_path) as ledger:
        answers = ask(stub, requests, ledger, max_attempts=1)
        assert answers.of(requests[2]).error == "after 1 attempt: the batch ended without an answer to this"
        most = batch_price(model_of(stub).most(requests[2]))
        assert ledger.spent().dollars == answers.dollars + most.dollars


def test_no_batch_holds_more_requests_or_bytes_than_the_provider_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_batches, "MOST_LINES", 7)
    with OpenAIStub() as stub, ledger_at(tmp_path) as ledger:
        ask(stub, questions(20), ledger)
        assert [len(keys) for keys in stub.desk.asked] == [7, 7, 6]
        monkeypatch.setattr(openai_batches, "MOST_BYTES", 1000)
        ask(stub, [question(f"{number} " + "x" * 300) for number in range(3)], ledger)
        assert [len(keys) for keys in stub.desk.asked[3:]] == [1, 1, 1]


def test_a_cap_is_held_at_its_worst_and_spent_as_far_as_it_goes(tmp_path: Path) -> None:
    requests = questions(40)
    with OpenAIStub(lambda _: "a b c d e f g h") as stub, ledger_at(tmp_path) as ledger:
        most = batch_price(model_of(stub).most(requests[0])).dollars
        budget = Budget(Caps(dollars=4 * most))
        with pytest.raises(BudgetError, match="used up as far as whole calls fit"):
            ask(stub, requests, ledger, budget=budget)
        assert all(len(keys) * most <= 4 * most for keys in stub.desk.asked)
        assert budget.spent == ledger.spent()
        assert 3 * most < budget.spent.dollars <= 4 * most
        assert budget.held == Cost()
        answered = states(ledger)[0]
        assert 4 < answered < 40
        with pytest.raises(BudgetError):
            ask(stub, requests, ledger, budget=Budget(Caps(calls=answered), ledger.spent()))


def test_the_providers_count_is_told_while_it_works(tmp_path: Path) -> None:
    events: list[object] = []
    plan = BatchPlan(("validating", "in_progress", "in_progress", "completed"), delay_s=0.7)
    with OpenAIStub(batches=[plan]) as stub, ledger_at(tmp_path) as ledger:
        ask(stub, questions(2), ledger)
        stub.desk._plans.append(plan)
        with EventLog(listeners=(events.append,)).progress("teacher answers", 10, "answers") as progress:
            ask(stub, questions(10), ledger, progress=progress)
    told = [event for event in events if isinstance(event, Progressed)]
    assert any(event.note == "1 batch at the provider, 4 of 8 done" for event in told)
    assert (told[-1].done, told[-1].total, told[-1].dollars) == (10, 10, 30.0)


class TestRefusals:
    """One clear stop, in the provider's words, and nothing lost."""

    @pytest.mark.parametrize("route", ["upload", "create", "poll"])
    def test_a_key_that_is_not_taken_stops_at_once(self, route: str, tmp_path: Path) -> None:
        with OpenAIStub(batch_faults={route: [refused(401, "Incorrect API key")]}) as stub, ledger_at(tmp_path) as ledger:
            with pytest.raises(EndpointError, match=r"401: Incorrect API key; no key was sent"):
                ask(stub, questions(3), ledger)
            assert ask(stub, questions(3), ledger).asked == 3
            assert set(bought(stub).values()) == {1}

    def test_an_endpoint_without_batches_is_told_with_the_way_round(self, tmp_path: Path) -> None:
        words = r"/files: 404: no route; does this endpoint take batches\? `generation.mode: live`"
        with (
            OpenAIStub(batch_faults={"upload": [refused(404, "no route")]}) as stub,
            ledger_at(tmp_path) as ledger,
            pytest.raises(EndpointError, match=words),
        ):
            ask(stub, questions(1), ledger)

    def test_a_batch_that_fails_as_a_whole_stops_with_its_words_before_the_next_is_handed_in(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(openai_batches, "MOST_LINES", 2)
        plan = BatchPlan(("validating", "failed"), errors=(("model_not_found", "The provided model is not supported."),))
        with OpenAIStub(batches=[plan]) as stub, ledger_at(tmp_path) as ledger:
            with pytest.raises(EndpointError, match=r"batch batch_0 was refused: model_not_found: The provided model is not supported"):
                ask(stub, questions(6), ledger)
            assert len(stub.desk.batches) == 1
            assert states(ledger) == (0, 0, 2)
            assert ledger.spent().calls == 0
            assert ask(stub, questions(6), ledger).asked == 6

    def test_a_model_that_lines_do_not_find_stops_after_all_that_came_is_kept(self, tmp_path: Path) -> None:
        plan = BatchPlan(line_errors={0: (404, "The model `small` does not exist")})
        with OpenAIStub(batches=[plan]) as stub, ledger_at(tmp_path) as ledger:
            with pytest.raises(EndpointError, match=r'404: The model `small` does not exist; check the model name "small"'):
                ask(stub, questions(3), ledger)
            assert states(ledger) == (2, 1, 0)

    def test_a_batch_that_somebody_cancelled_stops_and_keeps_what_it_had(self, tmp_path: Path) -> None:
        plan = BatchPlan(("in_progress", "cancelling", "cancelled"), answered=2, silent=True)
        with OpenAIStub(batches=[plan]) as stub, ledger_at(tmp_path) as ledger:
            with pytest.raises(EndpointError, match=r"batch batch_0 was cancelled there; what it had answered is kept"):
                ask(stub, questions(5), ledger)
            assert states(ledger) == (2, 0, 3)
            assert ask(stub, questions(5), ledger).asked == 3

    def test_a_batch_that_the_provider_does_not_know_any_more_is_told_with_the_way_out(self, tmp_path: Path) -> None:
        with OpenAIStub(batch_faults={"poll": [refused(401)]}) as stub:
            with ledger_at(tmp_path) as ledger, pytest.raises(EndpointError):
                ask(stub, questions(2), ledger)
            stub.desk.batches.clear()
            with ledger_at(tmp_path) as ledger:
                with pytest.raises(EndpointError, match=r"404: No such batch.*UPDATE batch SET state = 'lost'"):
                    ask(stub, questions(2), ledger)
                ledger._db.execute("UPDATE batch SET state = 'lost' WHERE provider_id = 'batch_0'")
            with ledger_at(tmp_path) as ledger:
                assert ledger.spent().calls == 2  # paid for, as far as anybody knows
                assert ask(stub, questions(2), ledger).asked == 2

    def test_an_endpoint_that_stays_away_stops_and_the_batch_is_fetched_later(self, tmp_path: Path) -> None:
        with OpenAIStub(batch_faults={"poll": [refused(503, "down")] * 3}) as stub, ledger_at(tmp_path) as ledger:
            with pytest.raises(EndpointError, match=r"nothing but failures .* the last: 503: down. What was handed in is not lost"):
                ask(stub, questions(3), ledger)
            assert ask(stub, questions(3), ledger).asked == 3
            assert len(stub.desk.batches) == 1

    def test_questions_in_a_batch_are_not_asked_by_calls_as_well(self, tmp_path: Path) -> None:
        async def live(ledger: Ledger) -> None:
            await ask_async(model_of(stub), questions(3), ledger)

        with OpenAIStub(batch_faults={"poll": [refused(401)]}) as stub, ledger_at(tmp_path) as ledger:
            with pytest.raises(EndpointError):
                ask(stub, questions(2), ledger)
            with pytest.raises(StoreError, match=r"2 of these questions wait in a batch .* `generation.mode: batch`"):
                asyncio.run(live(ledger))
            assert stub.calls == []


PASSING = {"reset": RESET, "429": refused(429, retry_after="0.01"), "500": refused(500), "503": refused(503), "torn": TORN_JSON}


CUT_OFF = '{"id": "r0", "custom_id": "KEY", "response": {"status_code": 200, "bo'


class TestPassingFaults:
    """What fails for the moment is tried again, and nothing is handed in twice."""

    @pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
    @pytest.mark.parametrize("route", ["upload", "create", "poll", "list", "content"])
    def test_on_any_route(self, route: str, fault: Fault, tmp_path: Path) -> None:
        faults: dict[str, list[Fault | None]] = {route: [fault, fault]}
        if route == "list":
            faults["create"] = [refused(503)]
        if route == "content" and fault is TORN_JSON:
            return  # a file of lines is no JSON; what a torn one comes to has its own test
        with OpenAIStub(batch_faults=faults) as stub, ledger_at(tmp_path) as ledger:
            assert ask(stub, questions(3), ledger).asked == 3
            assert not any(stub._batch_faults[route])
            assert len(stub.desk.batches) == 1

    def test_a_submission_whose_reply_is_lost_is_found_again_by_our_id(self, tmp_path: Path) -> None:
        with OpenAIStub(batch_faults={"create": [LOST_REPLY]}) as stub, ledger_at(tmp_path) as ledger:
            assert ask(stub, questions(3), ledger).asked == 3
            [batch] = stub.desk.batches
            assert len(batch.metadata[METADATA]) == 32

    def test_it_is_found_however_many_others_there_are(self, tmp_path: Path) -> None:
        with OpenAIStub(batch_faults={"create": [None] * 4 + [LOST_REPLY]}) as stub, ledger_at(tmp_path) as ledger:
            for number in range(4):
                ask(stub, [question(f"other {number}")], ledger)
            stub.desk.batches.reverse()  # ours is not the newest
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(openai_batches, "_PAGE", 2)
                assert ask(stub, questions(3), ledger).asked == 3
            assert len(stub.desk.batches) == 5

    def test_half_a_file_is_fetched_again(self, tmp_path: Path) -> None:
        half = Fault(body='{"custom_id": "a", "resp', cut=True)
        with OpenAIStub(batch_faults={"content": [half]}) as stub, ledger_at(tmp_path) as ledger:
            answers = ask(stub, questions(3), ledger)
            assert (answers.asked, answers.failed, answers.passed_over) == (3, 0, 0)

    def test_lines_that_cannot_be_read_are_passed_over_and_their_rows_asked_again(self, tmp_path: Path) -> None:
        torn = Fault(body='not a line\n{"custom_id": 7}\n[]\n{"custom_id": "x", "resp')
        with OpenAIStub(batch_faults={"content": [torn] * 3}) as stub, ledger_at(tmp_path) as ledger:
            answers = ask(stub, questions(3), ledger)
            assert (answers.asked, answers.failed, answers.passed_over) == (3, 0, 4)
            assert states(ledger) == (3, 3, 0)

    @pytest.mark.parametrize("rest", ["", CUT_OFF], ids=["between lines", "in a line"])
    def test_a_file_that_was_cut_off_in_silence_is_fetched_again_and_nothing_bought_twice(self, rest: str, tmp_path: Path) -> None:
        with OpenAIStub(batch_faults={"content": [Fault(body=rest)] * 2}) as stub, ledger_at(tmp_path) as ledger:
            answers = ask(stub, questions(3), ledger)
            assert (answers.asked, answers.failed, answers.passed_over, len(stub.desk.batches)) == (3, 0, 0, 1)
            assert states(ledger) == (3, 0, 0)

    def test_a_line_that_stays_cut_off_is_kept_with_its_failed_call(self, tmp_path: Path) -> None:
        with OpenAIStub() as stub, ledger_at(tmp_path) as ledger:
            line = CUT_OFF.replace("KEY", request_key(model_of(stub), questions(1)[0]))
            stub._batch_faults["content"] = [Fault(body=line)] * 3
            assert ask(stub, questions(1), ledger).asked == 1
            assert states(ledger) == (1, 1, 0)
            [(raw, error)] = ledger._db.execute("SELECT raw, error FROM attempt WHERE state = 'failed'")
            assert (zlib.decompress(raw).decode(), error) == (line, "after 1 attempt: its line in the batch's file cannot be read")

    def test_a_model_that_wants_max_completion_tokens_is_asked_so_in_the_next_batch(self, tmp_path: Path) -> None:
        words = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        plan = BatchPlan(line_errors=dict.fromkeys(range(3), (400, words)))
        with OpenAIStub(batches=[plan]) as stub, ledger_at(tmp_path) as ledger:
            answers = ask(stub, questions(3), ledger)
            assert (answers.asked, answers.failed) == (3, 0)
            assert all(line["body"]["max_completion_tokens"] == 8 for line in stub.desk.batches[1].lines)


class TestAFullQueue:
    """The provider has no room: fewer batches at a time, or smaller ones."""

    FULL = BatchPlan(("validating", "failed"), errors=(("token_limit_exceeded", "Enqueued token limit reached for small"),))

    def test_a_batch_alone_is_made_smaller(self, tmp_path: Path) -> None:
        with OpenAIStub(batches=[self.FULL, self.FULL]) as stub, ledger_at(tmp_path) as ledger:
            assert ask(stub, questions(8), ledger).asked == 8
            assert [len(keys) for keys in stub.desk.asked] == [8, 4, 2, 2, 2, 2]
            assert ledger.spent().calls == 8

    def test_among_others_it_waits_for_one_to_come_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(openai_batches, "MOST_LINES", 2)
        slow = BatchPlan(("validating", "in_progress", "completed"), delay_s=0.3)
        with OpenAIStub(batches=[slow, self.FULL]) as stub, ledger_at(tmp_path) as ledger:
            assert ask(stub, questions(6), ledger).asked == 6
            assert [len(keys) for keys in stub.desk.asked] == [2] * 4
            assert stub.desk.batches[2].created > stub.desk.batches[0].created + 0.3

    def test_a_single_request_that_has_no_room_stops_with_the_providers_words(self, tmp_path: Path) -> None:
        with OpenAIStub(batches=[self.FULL] * 9) as stub, ledger_at(tmp_path) as ledger:
            with pytest.raises(EndpointError, match="Enqueued token limit reached for small"):
                ask(stub, questions(2), ledger)
            assert ledger.spent().calls == 0


class TestRestarts:
    """Whenever it is stopped, the next call fetches what was handed in, and hands in what was not."""

    CHILD = textwrap.dedent("""
        import asyncio, sys
        sys.path.insert(0, sys.argv[1])
        from pathlib import Path
        from test_batch import OpenAIModel, TeacherSpec, PRICE, ask_batched, questions
        from potstill.store.ledger import Ledger
        async def main():
            model = OpenAIModel(TeacherSpec(model="small", base_url=sys.argv[2], price=PRICE))
            with Ledger(Path(sys.argv[3])) as ledger:
                await ask_batched(model, questions(10), ledger, poll_s=0.05)
        asyncio.run(main())
    """)

    def kill(self, stub: OpenAIStub, path: Path, number: signal.Signals, when: object) -> int:
        """Start asking in another process, and send it a signal when `when()` holds."""
        child = subprocess.Popen(
            [sys.executable, "-c", self.CHILD, str(Path(__file__).parent), stub.base_url, str(path / "ledger.sqlite")],
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 60
        while not when() and time.monotonic() < deadline:  # type: ignore[operator]
            assert child.poll() is None, "the other process ended by itself"
            time.sleep(0.005)
        child.send_signal(number)
        return child.wait(60)

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
    def test_stopped_while_it_waits_the_batch_is_fetched_by_the_next(self, number: signal.Signals, tmp_path: Path) -> None:
        with OpenAIStub(batches=[BatchPlan(("in_progress", "completed"), delay_s=30)]) as stub:
            self.kill(stub, tmp_path, number, lambda: any(batch.looks for batch in stub.desk.batches))
            [batch] = stub.desk.batches
            batch.plan = BatchPlan()
            with ledger_at(tmp_path) as ledger:
                assert ledger.spent().calls == 10
                answers = ask(stub, questions(10), ledger)
                assert (answers.asked, answers.stood) == (10, 0)
                assert ledger.spent() == Cost(10, 40, 0.5 * (20 + 2 * 20))
            assert len(stub.desk.batches) == 1

    def test_killed_between_the_submission_and_its_reply_the_batch_is_found_by_our_id(self, tmp_path: Path) -> None:
        hangs = Fault(late=True, delay_s=60)
        with OpenAIStub(batch_faults={"create": [hangs]}) as stub:
            self.kill(stub, tmp_path, signal.SIGKILL, lambda: stub.desk.batches)
            with ledger_at(tmp_path) as ledger:
                assert ask(stub, questions(10), ledger).asked == 10
            assert len(stub.desk.batches) == 1

    def test_killed_before_the_submission_its_questions_are_asked_anew(self, tmp_path: Path) -> None:
        hangs = Fault(late=True, delay_s=60)
        with OpenAIStub(batch_faults={"upload": [hangs]}) as stub:
            self.kill(stub, tmp_path, signal.SIGKILL, lambda: stub.desk._files)
            with ledger_at(tmp_path) as ledger:
                budget = Budget(Caps(), ledger.spent())
                assert ask(stub, questions(10), ledger, budget=budget).asked == 10
                assert states(ledger) == (10, 0, 10)
                assert budget.spent == ledger.spent() == Cost(10, 40, 30.0)
            assert [len(keys) for keys in stub.desk.asked] == [10]

    def test_stopped_at_any_moment_nothing_is_lost_or_bought_twice(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(openai_batches, "MOST_LINES", 4)
        requests = questions(30)
        dice = random.Random(7)

        async def a_while(ledger: Ledger, model: OpenAIModel, longest_s: float) -> Answers | None:
            task = asyncio.create_task(ask_batched(model, requests, ledger, poll_s=0.002))
            await asyncio.wait([task], timeout=dice.uniform(0.0, longest_s))
            if not task.done():
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                return await task
            return None

        async def stop_and_go() -> int:
            stops, model = 0, model_of(stub)
            while True:
                with ledger_at(tmp_path) as ledger:
                    # Longer and longer, so that a slow machine comes to an end as well.
                    if await a_while(ledger, model, 0.02 + 0.001 * stops) is not None:
                        await model.close()
                        return stops
                stops += 1

        plan = BatchPlan(shuffled=True, duplicated=True)
        with OpenAIStub(batches=[plan] * 50) as stub:
            assert asyncio.run(stop_and_go()) > 5
            assert len(bought(stub)) == 30
            assert set(bought(stub).values()) == {1}
            with ledger_at(tmp_path) as ledger:
                assert texts(ask(stub, requests, ledger), requests) == [f"question {number}" for number in range(30)]
                assert ledger.spent().dollars == 0.5 * (60 + 2 * 60)

    def test_a_signal_ends_asking_as_an_interrupt(self, tmp_path: Path) -> None:
        def interrupt() -> None:
            while not any(batch.looks for batch in stub.desk.batches):
                time.sleep(0.005)
            os.kill(os.getpid(), signal.SIGTERM)

        with OpenAIStub(batches=[BatchPlan(("in_progress", "completed"), delay_s=30)]) as stub, ledger_at(tmp_path) as ledger:
            killer = threading.Thread(target=interrupt)
            killer.start()
            with pytest.raises(KeyboardInterrupt):
                ask(stub, questions(3), ledger)
            killer.join()
            assert len(ledger.open_batches(model_of(stub).identity)) == 1

    def test_minutes_that_are_used_up_leave_the_batch_to_the_next(self, tmp_path: Path) -> None:
        with OpenAIStub(batches=[BatchPlan(("in_progress", "completed"), delay_s=1)]) as stub, ledger_at(tmp_path) as ledger:
            with pytest.raises(BudgetError, match="minutes is used up"):
                ask(stub, questions(3), ledger, budget=Budget(Caps(minutes=0.005)))
            assert ask(stub, questions(3), ledger).asked == 3
            assert len(stub.desk.batches) == 1

    def test_what_waits_is_held_once_and_given_back_when_it_comes(self, tmp_path: Path) -> None:
        requests = questions(6)
        with OpenAIStub(batch_faults={"poll": [refused(401)]}) as stub, ledger_at(tmp_path) as ledger:
            with pytest.raises(EndpointError):
                ask(stub, requests[:4], ledger)
            most = batch_price(model_of(stub).most(requests[0])).dollars
            # Room for what waits and no more: the rest has to wait until it comes back, and then fits.
            budget = Budget(Caps(dollars=4 * most), ledger.spent())
            assert ask(stub, requests, ledger, budget=budget).asked == 6
            assert budget.spent == ledger.spent() == Cost(6, 24, 18.0)
            assert budget.held == Cost()

    def test_another_runs_batch_is_fetched_on_that_runs_account(self, tmp_path: Path) -> None:
        with OpenAIStub(batch_faults={"poll": [refused(401)]}) as stub:
            with ledger_at(tmp_path, "theirs") as ledger, pytest.raises(EndpointError):
                ask(stub, questions(4), ledger)
            with ledger_at(tmp_path, "ours") as ledger:
                budget = Budget(Caps(), ledger.spent())
                answers = ask(stub, questions(6), ledger, budget=budget)
                assert texts(answers, questions(6)) == [f"question {number}" for number in range(6)]
                assert budget.spent == ledger.spent() == Cost(2, 8, 6.0)
            with ledger_at(tmp_path, "theirs") as ledger:
                assert ledger.spent() == Cost(4, 16, 12.0)
        assert set(bought(stub).values()) == {1}


def test_azures_batches_stand_above_the_deployments_and_name_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "https://x.openai.azure.com/openai/deployments/small-batch"
    model = OpenAIModel(TeacherSpec(model="gpt-small", base_url=address, api_version="2024-10-21"))
    assert model.route("/batches") == "https://x.openai.azure.com/openai/batches?api-version=2024-10-21"
    assert model.route("/chat/completions") == f"{address}/chat/completions?api-version=2024-10-21"
    assert model.body(question("a"))["model"] == "small-batch"
    line = json.loads(openai_batches.BatchDesk(model, Path(), 0.0).line("key", question("a")))
    assert (line["custom_id"], line["method"], line["url"]) == ("key", "POST", "/chat/completions")


@pytest.mark.parametrize("status", [403, 404, 302, 500])
def test_a_signed_address_is_told_without_its_signature(tmp_path: Path, status: int) -> None:
    elsewhere = socket.create_server(("127.0.0.1", 0))
    there = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/file"

    def serve() -> None:
        words = b"AccessDenied: Signature=planted-signature"
        reply = (
            f"HTTP/1.1 {status} No\r\nConnection: close\r\nLocation: {there}?Signature=planted-signature\r\nContent-Length: {len(words)}"
        )
        with contextlib.suppress(OSError):
            while True:
                connection, _ = elsewhere.accept()
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(reply.encode() + b"\r\n\r\n" + words)

    threading.Thread(target=serve, daemon=True).start()
    away = Fault(302, headers={"Location": f"{there}?Signature=planted-signature"})
    with OpenAIStub(batch_faults={"content": [away] * 3}) as stub, ledger_at(tmp_path) as ledger:
        with pytest.raises(EndpointError, match=rf"{status} from {there}, where the file lies") as told:
            ask(stub, questions(3), ledger)
        assert len(stub.desk.batches) == 1
    elsewhere.close()
    assert "planted-signature" not in str(told.value)
    assert b"planted-signature" not in (tmp_path / "ledger.sqlite").read_bytes()


def test_a_file_that_lies_elsewhere_is_fetched_without_telling_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-planted-0123456789")
    heard: list[bytes] = []
    elsewhere = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = elsewhere.accept()
        with connection:
            heard.append(connection.recv(1 << 16))
            [batch] = stub.desk.batches
            body = stub.desk._files[f"{batch.id}-output"]
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    away = Fault(302, headers={"Location": f"http://127.0.0.1:{elsewhere.getsockname()[1]}/file"})
    thread = threading.Thread(target=serve)
    thread.start()
    with OpenAIStub(key="sk-planted-0123456789", batch_faults={"content": [away]}) as stub, ledger_at(tmp_path) as ledger:
        assert ask(stub, questions(3), ledger, api_key_env="SOME_KEY", headers={"X-Team": "planted-team"}).asked == 3
    thread.join()
    elsewhere.close()
    assert heard
    assert b"planted-team" not in heard[0]
    assert b"sk-planted" not in heard[0]

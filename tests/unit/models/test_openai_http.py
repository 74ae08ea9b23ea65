"""A row's own failure is data, a broken contract stops the run, and the key is never told."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from potstill.errors import EndpointError
from potstill.models.ask import ask_async
from potstill.models.budget import cost_of
from potstill.models.openai_http import OpenAIModel
from potstill.models.openai_wire import read_answers, read_complaint
from potstill.models.testing import HALF_A_BODY, HTML, NO_CHOICES, TORN_JSON, Fault, OpenAIStub, answered, edited, refused
from potstill.records import Completion, Cost, Message, Request, Sampling, Usage
from potstill.spec.sections import PriceSpec, TeacherSpec
from potstill.store.ledger import Ledger

KEY = "sk-planted-0123456789"
REQUEST = Request((Message("system", "Be brief."), Message("user", "hello there")), Sampling(16))


def endpoint(stub: OpenAIStub, **settings: object) -> TeacherSpec:
    return TeacherSpec.model_validate({"model": "small", "base_url": stub.base_url, "max_attempts": 3, **settings})


def ask(spec: TeacherSpec, *requests: Request, backoff_s: float = 0.001) -> list[Completion]:
    """What stands in the ledger after these requests were asked, tries and all."""

    async def run(ledger: Ledger) -> list[Completion]:
        model = OpenAIModel(spec, backoff_s=backoff_s)
        try:
            answers = await ask_async(model, requests or (REQUEST,), ledger)
            return [answers.of(request) for request in requests or (REQUEST,)]
        finally:
            await model.close()

    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
        return asyncio.run(run(ledger))


def test_an_answer_carries_text_usage_and_reason() -> None:
    with OpenAIStub() as stub:
        [answer] = ask(endpoint(stub))
    assert (answer.text, answer.finish_reason, answer.error) == ("hello there", "stop", None)
    assert answer.usage == Usage(4, 2)
    assert answer.latency_s > 0


def test_the_call_says_all_that_was_asked_for() -> None:
    request = Request(REQUEST.messages, Sampling(9, temperature=0.7, top_p=0.9, stop=("\n",), seed=40), sample=2)
    with OpenAIStub() as stub:
        ask(endpoint(stub), request)
        [call] = stub.calls
    assert call == {
        "model": "small",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello there"}],
        "max_tokens": 9,
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 42,
        "stop": ["\n"],
    }


def test_a_greedy_call_leaves_out_what_says_nothing() -> None:
    with OpenAIStub() as stub:
        ask(endpoint(stub))
        assert set(stub.calls[0]) == {"model", "messages", "max_tokens", "temperature"}


def test_answers_keep_the_order_of_their_requests() -> None:
    requests = [Request((Message("user", str(n)),), Sampling(4)) for n in range(20)]
    with OpenAIStub(delay_s=0.01) as stub:
        assert [c.text for c in ask(endpoint(stub), *requests)] == [str(n) for n in range(20)]
        assert stub.most_at_once > 1


def test_never_more_calls_are_in_flight_than_concurrency() -> None:
    async def run(stub: OpenAIStub) -> None:
        model = OpenAIModel(endpoint(stub), concurrency=3)
        await model.complete([Request((Message("user", str(n)),), Sampling(4)) for n in range(12)])
        await model.close()

    with OpenAIStub(delay_s=0.01) as stub:
        asyncio.run(run(stub))
        assert stub.most_at_once == 3


@pytest.mark.parametrize(
    "fault",
    [refused(408), refused(409), refused(429), refused(500), refused(502), refused(503), refused(529), HALF_A_BODY, TORN_JSON, HTML],
    ids=lambda fault: f"{fault.status}-{fault.body[:20]}",
)
def test_what_may_pass_is_tried_again(fault: Fault) -> None:
    with OpenAIStub(faults=[fault, fault]) as stub:
        [answer] = ask(endpoint(stub))
        assert len(stub.calls) == 3
    assert answer.text == "hello there"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (refused(429, "slow down"), "after 3 attempts: 429: slow down"),
        (refused(500, "oops"), "after 3 attempts: 500: oops"),
        (Fault(503, "<html><title>Bad gateway</title></html>"), "after 3 attempts: 503: a web page titled 'Bad gateway'"),
        (HALF_A_BODY, "after 3 attempts: the connection broke"),
        (TORN_JSON, "after 3 attempts: the answer is not JSON, or only half of it"),
    ],
    ids=["429", "500", "503", "half", "torn"],
)
def test_what_does_not_pass_is_that_rows_failure(fault: Fault, reason: str) -> None:
    with OpenAIStub(always=fault) as stub:
        [answer] = ask(endpoint(stub))
        assert len(stub.calls) == 3
    assert answer.finish_reason == "error"
    assert str(answer.error).startswith(reason)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (refused(400, "prompt too long"), "400: prompt too long"),
        (refused(422, "bad field"), "422: bad field"),
        (NO_CHOICES, "the endpoint answered without a choice"),
        (Fault(body='{"choices": [{}]}'), "the endpoint answered without a choice"),
        (Fault(body="[]"), "the answer is a JSON list, not an object"),
        (answered(None), "the answer is empty"),
        (answered(""), "the answer is empty"),
        (answered("", "length"), "the answer is empty: all 16 tokens went into thinking; raise `task.max_new_tokens`"),
        (Fault(body='{"error": {"message": "upstream is odd", "code": 400}}'), "400: upstream is odd"),
    ],
    ids=["400", "422", "no choices", "no message", "list", "null", "empty", "thinking", "error at 200"],
)
def test_a_call_that_fails_by_itself_is_not_tried_again(fault: Fault, reason: str) -> None:
    with OpenAIStub(always=fault) as stub:
        [answer] = ask(endpoint(stub))
        assert len(stub.calls) == 1
    assert (answer.finish_reason, answer.error) == ("error", reason)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (refused(401, "Incorrect API key"), r"401: Incorrect API key; no key was sent: name .*`teacher.api_key_env`"),
        (refused(403, "not for you"), r"403: not for you; "),
        (refused(404, "no route"), r'404: no route; check the model name "small", and the address \(most end in /v1\)'),
        (refused(400, "The model `small` does not exist"), r'400: The model `small` does not exist; check the model name "small"'),
        (refused(400, "nope", code="model_not_found"), r"check the model name"),
        (refused(402, "pay first"), r"402: pay first; the account has no credit left"),
        (refused(429, "quota", code="insufficient_quota"), r"the account has no credit left"),
        (refused(405, "GET only"), r"405: GET only; this is not an address of chat completions: check `base_url`"),
        (Fault(301, headers={"Location": "https://elsewhere/v1"}), r"301: without a word to https://elsewhere/v1; this is not an address"),
        (Fault(301, headers={"Location": "https://me:secret@elsewhere/v1?signature=x#y"}), r"a word to https://elsewhere/v1; this is not"),
        (Fault(body='{"error": {"message": "bad key", "code": 401}}'), r"401: bad key"),
    ],
    ids=["401", "403", "404", "model", "model code", "402", "quota", "405", "redirect", "signed redirect", "401 at 200"],
)
def test_a_broken_contract_stops_the_run_at_once_in_the_providers_words(fault: Fault, message: str) -> None:
    with OpenAIStub(always=fault) as stub:
        with pytest.raises(EndpointError, match=message) as caught:
            ask(endpoint(stub))
        assert len(stub.calls) == 1
        assert stub.base_url in str(caught.value)


def test_the_specs_headers_go_with_each_call() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        spec = TeacherSpec(model="small", base_url=f"http://127.0.0.1:{server.getsockname()[1]}/v1", headers={"X-Team": "red"})
        heard: list[bytes] = []

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                heard.append(connection.recv(1 << 16))
                connection.sendall(b"HTTP/1.1 403 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(EndpointError):
            ask(spec)
        thread.join()
    assert b"X-Team: red\r\n" in heard[0]


def test_nobody_at_the_address_is_told_with_the_address() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        spec = TeacherSpec(model="small", base_url=address, max_attempts=2)
        with pytest.raises(
            EndpointError, match=rf"{address}: after 2 attempts: cannot connect .*is the address right, and the server running"
        ):
            ask(spec)


def test_an_address_that_takes_no_connection_is_told_as_such_and_counts_as_not_charged() -> None:
    async def run(spec: TeacherSpec) -> Completion:
        model = OpenAIModel(spec)
        [answer] = await model.complete([REQUEST])
        await model.close()
        return answer

    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for waiting in (first, second):  # fill its queue: whoever comes now is not let in
            waiting.setblocking(False)
            waiting.connect_ex(deaf.getsockname())
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
        answer = asyncio.run(run(TeacherSpec(model="small", base_url=address, connect_timeout_s=0.2)))
    assert str(answer.error).startswith("cannot connect within 0.2 s")
    assert answer.fault is not None
    assert not answer.fault.charged


def test_a_web_page_from_the_start_stops_the_run() -> None:
    with OpenAIStub(always=HTML) as stub, pytest.raises(EndpointError, match=r"a web page instead of JSON; does the address lack its /v1"):
        ask(endpoint(stub))


def test_a_call_that_takes_too_long_is_that_rows_failure() -> None:
    with OpenAIStub(always=Fault(delay_s=30)) as stub:
        [answer] = ask(endpoint(stub, timeout_s=0.05, max_attempts=2))
        assert len(stub.calls) == 2
    assert answer.error == "after 2 attempts: no whole answer within 0.05 s"


def wants_completion_tokens(payload: dict[str, object]) -> Fault | None:
    words = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    return refused(400, words) if "max_tokens" in payload else None


def wants_no_n(payload: dict[str, object]) -> Fault | None:
    return refused(400, "n must be 1") if "n" in payload else None


@pytest.mark.parametrize("refuse", [wants_completion_tokens, wants_no_n])
def test_an_endpoint_that_wants_to_be_asked_otherwise_loses_none_of_the_rows_in_flight(refuse: Callable) -> None:
    requests = [Request((Message("user", str(n)),), Sampling(4, temperature=1.0), sample) for n in range(6) for sample in range(3)]
    with OpenAIStub(refuse=refuse, delay_s=0.02) as stub:
        answers = ask(endpoint(stub, max_attempts=1), *requests)
        assert stub.most_at_once > 1
    assert [answer.error for answer in answers] == [None] * 18


def test_an_endpoint_that_gives_one_answer_whatever_n_says_is_asked_for_one_at_a_time() -> None:
    requests = [Request(REQUEST.messages, Sampling(4, temperature=1.0), sample) for sample in range(4)]
    with OpenAIStub(always=edited(lambda body: body.update(choices=body["choices"][:1]))) as stub:
        assert [answer.error for answer in ask(endpoint(stub), *requests)] == [None] * 4
        assert [call.get("n", 1) for call in stub.calls] == [4, 1, 1, 1]


@pytest.mark.parametrize(
    ("status", "charged"), [(408, True), (499, True), (502, True), (504, True), (524, True), (429, False), (500, False), (503, False)]
)
def test_a_gateway_that_stopped_waiting_may_leave_a_call_to_pay(status: int, charged: bool) -> None:
    with OpenAIStub() as stub:
        answer = OpenAIModel(endpoint(stub)).read(status, "", REQUEST)
    assert answer.fault is not None
    assert answer.fault.charged == charged
    most = Cost(1, 1000, 1.0)
    assert (cost_of(answer, 0.0, most) == most) == charged


@pytest.mark.parametrize("body", ["[]", "null", '"text"'])
def test_an_answer_that_is_no_object_counts_as_the_most_that_it_can_cost(body: str) -> None:
    with OpenAIStub() as stub:
        answer = OpenAIModel(endpoint(stub)).read(200, body, REQUEST)
    assert (answer.finish_reason, answer.fault) == ("error", None)
    assert cost_of(answer, 0.0, Cost(1, 1000, 1.0)) == Cost(1, 1000, 1.0)


def test_retry_after_is_waited_for() -> None:
    with OpenAIStub(faults=[refused(429, retry_after="0.3")]) as stub:
        started = time.monotonic()
        ask(endpoint(stub))
        # A lower bound is no race: the wait can only be longer.
        assert time.monotonic() - started >= 0.3


def test_a_refusal_and_a_content_filter_are_told_apart_from_answers() -> None:
    with OpenAIStub(
        faults=[answered(None, refusal="I cannot."), answered("half an", "content_filter"), refused(400, "no", code="content_filter")]
    ) as stub:
        spec = endpoint(stub)
        refusal, filtered, blocked = [ask(spec)[0] for _ in range(3)]
    assert (refusal.text, refusal.finish_reason) == ("I cannot.", "refusal")
    assert (filtered.text, filtered.finish_reason) == ("half an", "content_filter")
    assert (blocked.text, blocked.finish_reason, blocked.error) == ("", "content_filter", "400: no")


def test_an_answer_cut_by_the_limit_says_so() -> None:
    with OpenAIStub() as stub:
        [answer] = ask(endpoint(stub), Request((Message("user", "one two three four"),), Sampling(2)))
    assert (answer.text, answer.finish_reason) == ("one two", "length")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("stop", "stop"),
        (None, "stop"),
        ("end_turn", "stop"),
        ("length", "length"),
        ("MAX_TOKENS", "length"),
        ("content_filter", "content_filter"),
    ],
)
def test_the_usual_reasons_are_understood(said: str | None, reason: str) -> None:
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": said}]}
    assert read_answers(body, REQUEST, "m")[0].finish_reason == reason


def test_usage_that_is_not_told_is_estimated() -> None:
    body = {"choices": [{"message": {"content": "x" * 40}}], "usage": {"prompt_tokens": 7}}
    assert read_answers(body, REQUEST, "m")[0].usage == Usage(7, 10)


def test_content_in_parts_is_joined() -> None:
    body = {"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}}]}
    assert read_answers(body, REQUEST, "m")[0].text == "ab"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"error": {"message": "m"}}', "m"),
        ('{"error": "m"}', "m"),
        ('{"detail": "m"}', "m"),
        ('{"message": "m"}', "m"),
        ('[{"error": {"message": "m"}}]', "m"),
        ("m", "m"),
        ("", ""),
        ("x" * 1000, "x" * 299 + "…"),
    ],
)
def test_complaints_are_read_in_every_usual_shape(body: str, words: str) -> None:
    assert read_complaint(body).words == words


def test_dollars_follow_the_price_and_are_unknown_without() -> None:
    answer = Completion("x", "stop", Usage(1_000_000, 500_000))
    priced = TeacherSpec(model="m", base_url="http://x/v1", price=PriceSpec(input_per_million=2.0, output_per_million=8.0))
    assert OpenAIModel(priced).dollars(answer) == 6.0
    assert OpenAIModel(TeacherSpec(model="m", base_url="http://x/v1")).dollars(answer) is None


def test_identity_is_address_and_model_not_how_it_was_written() -> None:
    spellings = ["http://x/v1", "http://x/v1/", "http://x/v1/chat/completions"]
    assert len({OpenAIModel(TeacherSpec(model="m", base_url=url)).identity for url in spellings}) == 1
    assert (
        OpenAIModel(TeacherSpec(model="n", base_url="http://x/v1")).identity
        != OpenAIModel(TeacherSpec(model="m", base_url="http://x/v1")).identity
    )


@pytest.mark.parametrize("address", ["api.example.com/v1", "ftp://x/v1", "http://", "http://[x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(EndpointError, match=r"is not an address; expected something like https://api.example.com/v1"):
        OpenAIModel(TeacherSpec(model="m", base_url=address))


def test_one_model_serves_several_event_loops() -> None:
    with OpenAIStub() as stub:
        model = OpenAIModel(endpoint(stub))
        for _ in range(2):
            assert asyncio.run(model.complete([REQUEST]))[0].text == "hello there"
        gc.collect()


class TestKey:
    """The key reaches the endpoint, and nobody else."""

    def test_it_is_sent_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SOME_KEY", f" {KEY}\n")
        with OpenAIStub(key=KEY) as stub:
            assert ask(endpoint(stub, api_key_env="SOME_KEY"))[0].error is None

    def test_it_is_sent_from_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text(KEY + "\n")
        with OpenAIStub(key=KEY) as stub:
            assert ask(endpoint(stub, api_key_file=tmp_path / "key"))[0].error is None

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (None, r"cannot be read"),
            ("", r"is empty"),
            ("two words", r"holds something that is no key"),
            ("ключ", r"holds something that is no key"),
        ],
    )
    def test_a_file_without_a_key_is_named(self, content: str | None, message: str, tmp_path: Path) -> None:
        if content is not None:
            (tmp_path / "key").write_text(content)
        with pytest.raises(EndpointError, match=message):
            OpenAIModel(TeacherSpec(model="m", base_url="http://x/v1", api_key_file=tmp_path / "key"))

    def test_a_key_in_the_address_is_refused_and_not_repeated(self) -> None:
        with pytest.raises(EndpointError, match=r"holds a user name or password") as caught:
            # As a catalogue's entry may bring it; a spec's own is refused before.
            OpenAIModel(TeacherSpec(model="m").model_copy(update={"base_url": f"https://user:{KEY}@x/v1"}))
        assert KEY not in str(caught.value)

    @pytest.mark.parametrize("status", [400, 401, 404, 418, 429, 500])
    def test_it_stands_in_no_message_log_or_repr(
        self, status: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        caplog.set_level(logging.DEBUG)
        monkeypatch.setenv("SOME_KEY", KEY)
        words = f"this key is wrong: {KEY}"
        with OpenAIStub(always=Fault(status, json.dumps({"error": {"message": words}}), headers={"X-Key": KEY})) as stub:
            spec = endpoint(stub, api_key_env="SOME_KEY")
            model = OpenAIModel(spec)
            told = [repr(model), str(model), model.identity, model.name, repr(spec), str(spec.model_dump())]
            try:
                told += [repr(answer) for answer in ask(spec)]
            except EndpointError as error:
                told += [str(error), repr(error), repr(error.__cause__)]
        told += [caplog.text, *capfd.readouterr()]
        assert KEY not in "".join(told)
        assert "[key]" in "".join(told)

    @pytest.mark.parametrize("body", [f"<html>{KEY}", f'{{"choices": [{{"message": {{"content": "{KEY}"}}}}]}}', "x" * 290 + KEY])
    def test_it_stands_in_no_body_that_is_kept(self, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SOME_KEY", KEY)

        async def run(spec: TeacherSpec) -> Completion:
            model = OpenAIModel(spec)
            [answer] = await model.complete([REQUEST])
            await model.close()
            return answer

        with OpenAIStub(always=Fault(body=body)) as stub:
            answer = asyncio.run(run(endpoint(stub, api_key_env="SOME_KEY")))
        assert KEY not in f"{answer} {answer.raw}"
        assert "[key]" in str(answer.raw)

    @pytest.mark.parametrize(
        "written", [r"sk-ab/cd+E\\\\F", r"sk-ab\/cd\u002bE\u005CF", r"\u0073k-ab\u002Fcd+E\\F", r"sk-ab\\\/cd\\u002BE\\\\F"]
    )
    @pytest.mark.parametrize("status", [200, 400, 401])
    def test_it_does_not_come_back_by_way_of_json_s_escapes(self, written: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
        key = "sk-ab/cd+E\\F"
        monkeypatch.setenv("SOME_KEY", key)
        with OpenAIStub() as stub:
            model = OpenAIModel(endpoint(stub, api_key_env="SOME_KEY"))
        said = {200: f'{{"choices": [{{"message": {{"content": "<{written}>"}}}}]}}'}.get(
            status, f'{{"error": {{"message": "<{written}>"}}}}'
        )
        try:
            answer = model.read(status, model.without_key(said), REQUEST)
            told = f"{answer.text or answer.error} {answer.raw or ''}"
        except EndpointError as error:
            told = str(error)
        assert "<[key]>" in told
        assert key not in told
        assert "cd" not in told

"""A streamed answer is the answer of an ordinary call and, besides, when its first token came; what broke off is no answer."""

from __future__ import annotations

import asyncio
import itertools
import json
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.models.ask import ask_async
from potstill.models.openai_http import OpenAIModel
from potstill.models.openai_wire import read_answers, thinking_tokens
from potstill.models.streaming import Stream
from potstill.models.testing import Fault, OpenAIStub, edited, refused, streaming
from potstill.models.testing_streams import DONE, Chunks, Payload, Streaming, events, llama_cpp_chunks, openai_chunks
from potstill.records import Completion, Message, Request, Sampling, TokenLogprob, Usage
from potstill.spec.sections import PriceSpec, TeacherSpec
from potstill.store.ledger import Ledger

KEY = "sk-planted-0123456789"
REQUEST = Request((Message("user", "one two three four five"),), Sampling(16), streamed=True)
SHAPES = {"OpenAI": openai_chunks, "llama.cpp": llama_cpp_chunks}
ASKED = {"stream": True, "stream_options": {"include_usage": True}}
BETWEEN_S = 0.03


def put_together(*pieces: bytes) -> Stream:
    """A stream whose pieces came a second apart."""
    stream = Stream()
    for second, piece in enumerate(pieces):
        stream.feed(piece, float(second))
    return stream


def data(*chunks: object) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks)


def delta(**texts: object) -> Payload:
    return {"model": "m", "choices": [{"index": 0, "delta": texts, "finish_reason": None}]}


END: Payload = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}


def read(stream: Stream) -> Completion:
    body = stream.body()
    assert body is not None
    [answer] = read_answers(json.loads(json.dumps(body)), REQUEST, "m")
    return answer


@given(
    st.text(min_size=1).filter(str.strip),
    st.text(),
    st.sampled_from(list(SHAPES.values())),
    st.sampled_from(["\n", "\r\n"]),
    st.lists(st.integers(0, 2000)),
)
def test_bytes_read_the_same_however_they_are_cut_and_as_an_ordinary_call_does(
    text: str, thought: str, shape: Chunks, ends: str, cuts: list[int]
) -> None:
    message = {"role": "assistant", "content": text, "reasoning_content": thought}
    plain = {
        "id": "a",
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 5},
    }
    whole = "".join(events(shape(ASKED, plain))).replace("\n", ends).encode()
    edges = sorted({0, *(min(cut, len(whole)) for cut in cuts), len(whole)})
    stream = put_together(*(whole[start:end] for start, end in itertools.pairwise(edges)))
    assert stream.body() == put_together(whole).body()
    assert [read(stream)] == read_answers(plain, REQUEST, "m")
    assert stream.text() == whole.decode()


def test_the_first_token_is_that_of_the_answer_not_of_a_role_or_of_thinking() -> None:
    stream = put_together(
        data(delta(role="assistant", content="")),
        data(delta(reasoning_content="Hm.")),
        data(delta(content="A")),
        data(delta(content="b"), END),
    )
    assert read(stream).text == "Ab"
    assert read(stream).reasoning == "Hm."
    assert stream.first_s(2) == 2.0


def test_where_nothing_but_thinking_came_its_first_token_is_the_first() -> None:
    assert put_together(data(delta(role="assistant")), data(delta(reasoning="Hm")), data(END)).first_s(1) == 1.0


def test_an_answer_that_came_at_once_does_not_tell_when_its_first_token_was_written() -> None:
    stream = put_together(data(delta(role="assistant")), data(delta(content="A"), delta(content="b"), END), DONE.encode())
    assert stream.first_s(2) is None
    assert stream.first_s(1) == 1.0, "an answer of one token came when that one did"


def test_comments_other_fields_and_empty_lines_are_passed_over() -> None:
    stream = put_together(
        b": wait\n\nevent: message\nid: 3\ndata:\n\n" + data(delta(content="A")) + b"retry: 5\n" + data(END) + b"data: [DONE]"
    )
    assert read(stream).text == "A"


def test_the_last_usage_that_is_told_counts_and_none_is_added_up() -> None:
    chunks = [{**delta(content="A"), "usage": {"prompt_tokens": 7, "completion_tokens": count}} for count in (1, 2, 3)]
    assert read(put_together(data(*chunks, END, {"choices": [], "usage": None}))).usage == Usage(7, 3)


def test_half_a_pair_of_surrogates_in_each_of_two_pieces_is_one_character() -> None:
    stream = put_together(
        b'data: {"choices": [{"delta": {"content": "\\ud83d"}}]}\n', b'data: {"choices": [{"delta": {"content": "\\ude00"}}]}\n'
    )
    assert read(put_together(stream.text().encode(), data(END))).text == "\U0001f600"


def test_log_probabilities_of_the_pieces_stand_one_after_the_other() -> None:
    chunks = [
        {"choices": [{"delta": {"content": word}, "logprobs": {"content": [{"token": word, "logprob": -0.5, "top_logprobs": []}]}}]}
        for word in ("A", "b")
    ]
    assert read(put_together(data(*chunks, END))).logprobs == (TokenLogprob("A", -0.5), TokenLogprob("b", -0.5))


def test_what_holds_no_event_is_no_stream() -> None:
    for text in ('{"choices": [\n{"data": 1}]}', "<html>\ndatabase: 3", "", ": nothing yet\n\n"):
        assert put_together(text.encode()).body() is None


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (data(delta(content="half an")), "the stream ended before the answer did"),
        (data(delta(content="half an")) + b'data: {"choices": [{"del', "a part of the stream is not JSON"),
        (data(delta(content="half an"), [1], END), "a part of the stream is not JSON"),
        (data(delta(content="half an"), {"error": {"message": "overloaded", "code": 503}}), "overloaded"),
        (data(delta(content="half an"), {"error": "overloaded"}) + DONE.encode(), "overloaded"),
        (data(delta(content="half an"), {"object": "error", "message": "overloaded", "code": 503}), "overloaded"),
        (data(delta(content="half an")) + b'error: {"code": 503, "message": "overloaded"}\n\n', "overloaded"),
        (data({**END, "choices": [{"index": 0, "delta": {}, "finish_reason": "error"}], "error": {"message": "overloaded"}}), "overloaded"),
        (b"data: {\n\n", "a part of the stream is not JSON"),
    ],
)
def test_what_broke_off_is_a_fault_and_no_answer(sent: bytes, words: str) -> None:
    answer = read(put_together(sent))
    assert (answer.text, answer.error) == ("", f"broke off in the middle of the answer: {words}")
    assert answer.fault is not None
    assert (answer.fault.kind, answer.fault.charged) == ("garbled", True)


def test_an_answer_that_has_ended_needs_no_last_word() -> None:
    assert read(put_together(data(delta(content="A"), END))).text == "A"
    assert read(put_together(data(delta(content="A")) + DONE.encode())).text == "A"


def test_an_error_instead_of_any_choice_stands_as_in_an_ordinary_body() -> None:
    assert put_together(data({"error": {"message": "slow down", "code": 429}})).body() == {
        "object": "chat.completion",
        "error": {"message": "slow down", "code": 429},
    }


@pytest.mark.parametrize(
    ("details", "reasoning", "thought"),
    [
        ({"reasoning_tokens": 6}, None, 6),
        ({"reasoning_tokens": 0}, "x" * 30, 6),
        (None, "x" * 30, 6),
        (None, None, 0),
        ({"reasoning_tokens": 9}, None, 0),
    ],
    ids=["told", "told wrongly", "by length", "none", "counted apart"],
)
def test_tokens_of_thinking_are_told_or_shared_out_by_length(details: Payload | None, reasoning: str | None, thought: int) -> None:
    answer = Completion("y" * 10, "stop", Usage(3, 8), reasoning=reasoning)
    assert thinking_tokens({"usage": {"completion_tokens": 8, "completion_tokens_details": details}}, answer) == thought


def endpoint(stub: OpenAIStub, **settings: object) -> TeacherSpec:
    return TeacherSpec.model_validate({"model": "small", "base_url": stub.base_url, "max_attempts": 3, **settings})


def ask(folder: Path, stub: OpenAIStub, requests: Sequence[Request] = (REQUEST,), **settings: object) -> list[Completion]:
    """What stands in the ledger after these requests were asked, tries and all."""

    async def run(ledger: Ledger) -> list[Completion]:
        model = OpenAIModel(endpoint(stub, **settings), concurrency=1, backoff_s=0.001)
        try:
            answers = await ask_async(model, requests, ledger)
            return [answers.of(request) for request in requests]
        finally:
            await model.close()

    with Ledger(folder / "ledger.sqlite") as ledger:
        return asyncio.run(run(ledger))


def numbered(count: int) -> list[Request]:
    return [Request((Message("user", f"question number {n}"),), Sampling(16), streamed=True) for n in range(count)]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_first_token_is_timed_over_a_real_connection(tmp_path: Path, shape: Chunks) -> None:
    with OpenAIStub(delay_s=0.2, stream=Streaming(shape, between_s=0.1)) as stub:
        [answer] = ask(tmp_path, stub)
        [call] = stub.calls
    assert {name: call[name] for name in ASKED} == ASKED
    assert (answer.text, answer.finish_reason, answer.usage) == ("one two three four five", "stop", Usage(5, 5))
    # One pause before the first word, four after it; half of those may go to a busy machine.
    assert answer.first_token_s is not None
    assert 0.29 < answer.first_token_s < answer.latency_s - 0.2


def test_thinking_is_waited_for_and_told_apart(tmp_path: Path) -> None:
    think = edited(lambda body: body["choices"][0]["message"].update(reasoning_content="let me see if I can count to five"))
    with OpenAIStub(stream=Streaming(between_s=BETWEEN_S), always=think) as stub:
        [answer] = ask(tmp_path, stub)
    assert answer.first_token_s is not None
    assert 9 * BETWEEN_S * 0.95 < answer.first_token_s < answer.latency_s
    assert answer.thinking_tokens == round(5 * 33 / (33 + 23))


def test_the_first_token_s_time_outlives_the_process_and_makes_no_other_question(tmp_path: Path) -> None:
    with OpenAIStub(stream=Streaming(between_s=BETWEEN_S)) as stub:
        [first] = ask(tmp_path, stub)
        [again] = ask(tmp_path, stub, [Request(REQUEST.messages, REQUEST.sampling)])
        assert len(stub.calls) == 1
    assert first.first_token_s is not None
    assert (again.first_token_s, again.thinking_tokens) == (first.first_token_s, first.thinking_tokens)


def test_usage_is_charged_once(tmp_path: Path) -> None:
    with OpenAIStub() as stub:
        ask(tmp_path, stub, price=PriceSpec(input_per_million=1e6, output_per_million=2e6))
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.dollars() == 5 + 2 * 5.0


def no_streams(payload: Payload) -> Fault | None:
    return refused(400, "Streaming is not supported for this model.") if "stream" in payload else None


def no_stream_options(payload: Payload) -> Fault | None:
    words = json.dumps({"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]})
    return Fault(422, words) if "stream_options" in payload else None


@pytest.mark.parametrize("refuse", [no_streams, no_stream_options])
def test_an_endpoint_that_refuses_streams_is_asked_without_from_then_on(tmp_path: Path, refuse: Callable[[Payload], Fault | None]) -> None:
    with OpenAIStub(refuse=refuse) as stub:
        answers = ask(tmp_path, stub, numbered(3), max_attempts=1)
        assert [call.get("stream", False) for call in stub.calls] == [True, False, False, False]
    assert [(answer.text, answer.first_token_s) for answer in answers] == [(f"question number {n}", None) for n in range(3)]


def test_a_refusal_for_another_reason_is_that_row_s_and_streams_go_on(tmp_path: Path) -> None:
    with OpenAIStub(faults=[refused(400, "the upstream says: prompt too long")]) as stub:
        first, second = ask(tmp_path, stub, numbered(2))
        assert [call["stream"] for call in stub.calls] == [True, True]
    assert (first.error, second.error) == ("400: the upstream says: prompt too long", None)


def test_an_ordinary_body_in_answer_to_a_stream_is_read_as_such(tmp_path: Path) -> None:
    with OpenAIStub(stream=None) as stub:
        [answer] = ask(tmp_path, stub)
        assert stub.calls[0]["stream"]
    assert (answer.text, answer.usage, answer.first_token_s) == ("one two three four five", Usage(5, 5), None)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (streaming(lambda sent: sent[:3]), "broke off in the middle of the answer: the stream ended before the answer did"),
        (streaming(lambda sent: sent[:3], cut=True), "the connection broke"),
        (streaming(lambda sent: [*sent[:3], sent[3][:20]]), "broke off in the middle of the answer: a part of the stream is not JSON"),
        (
            streaming(lambda sent: [*sent[:3], 'data: {"error": {"message": "overloaded"}}\n\n']),
            "broke off in the middle of the answer: overloaded",
        ),
        (streaming(lambda _: [": nothing\n\n"]), "the answer is not JSON, or only half of it"),
    ],
    ids=["ends early", "cut", "torn", "error", "empty"],
)
def test_a_stream_that_broke_is_tried_again_and_counts_as_what_it_may_have_cost(tmp_path: Path, fault: Fault, words: str) -> None:
    with OpenAIStub(faults=[fault]) as stub:
        [answer] = ask(tmp_path, stub)
        assert [call["stream"] for call in stub.calls] == [True, True]
    assert answer.text == "one two three four five"
    database = sqlite3.connect(tmp_path / "ledger.sqlite")
    [(error, uncertain)] = database.execute("SELECT error, uncertain FROM attempt WHERE state = 'failed'")
    database.close()
    assert error.startswith(words)
    assert uncertain


def test_where_every_stream_breaks_answers_come_without(tmp_path: Path) -> None:
    def spoil(body: Payload) -> None:
        body["choices"][0]["finish_reason"] = "error"

    with OpenAIStub(faults=[edited(spoil)] * 2) as stub:
        answers = ask(tmp_path, stub, numbered(2))
        assert [call.get("stream", False) for call in stub.calls] == [True, True, False, False]
    assert [answer.text for answer in answers] == ["question number 0", "question number 1"]


@pytest.mark.parametrize(
    "end", [[], ["data: {"], ['data: {"error": {"message": "no, ' + KEY + '"}}\n\n'], [DONE]], ids=["cut", "torn", "error", "whole"]
)
def test_a_key_that_is_spread_over_pieces_is_kept_nowhere(tmp_path: Path, end: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    spread = [data(delta(content=part)).decode() for part in ("your key: sk-pla", "nted-0123", "456789!")]
    with OpenAIStub(key=KEY, always=streaming(lambda _: [*spread, *end])) as stub:
        [answer] = ask(tmp_path, stub, api_key_env="SOME_KEY", max_attempts=1)
    database = sqlite3.connect(tmp_path / "ledger.sqlite")
    kept = [zlib.decompress(raw).decode() for (raw,) in database.execute("SELECT raw FROM attempt WHERE raw IS NOT NULL")]
    database.close()
    everything = repr(answer) + "".join(kept) + (tmp_path / "ledger.sqlite").read_bytes().decode("latin-1")
    assert "[key]" in everything
    assert KEY not in everything
    assert all("123" not in raw for raw in kept)

"""Recorded answers: whatever their shape, they come back; what was not recorded is an error of its row."""

import asyncio
import gc
import json
import warnings

import pytest

from potstill.errors import ModelError
from potstill.models.replay import ReplayModel
from potstill.records import Completion, Message, Request, Sampling, Usage
from potstill.store.ledger import Ledger

TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is distilled?"}]
ANSWER = {"role": "assistant", "content": "Whisky."}
CHOICES = {
    "model": "big",
    "choices": [{"index": 0, "message": ANSWER, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3},
}
REQUEST = Request(tuple(Message(turn["role"], turn["content"]) for turn in TURNS), Sampling(8))


def replay(path, *requests: Request) -> list[Completion]:
    return asyncio.run(ReplayModel(path).complete(requests or (REQUEST,)))


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [*TURNS, ANSWER]},
        {"system": "Be brief.", "prompt": "What is distilled?", "completion": " Whisky.\n"},
        {"messages": TURNS, **CHOICES},
        {"input": {"messages": TURNS}, "output": CHOICES},
        {"input": TURNS, "output": [ANSWER]},
        {"request": {"method": "POST", "body": {"messages": TURNS}}, "response": {"status_code": 200, "body": CHOICES}},
        {"messages": TURNS, "output": "Whisky."},
    ],
    ids=["chat", "prompt", "choices", "input and output", "lists", "batch", "text"],
)
def test_every_usual_shape_of_a_recording_is_read(tmp_path, row):
    path = tmp_path / "recorded.jsonl"
    path.write_text(json.dumps(row) + "\n\n", encoding="utf-8")
    [answer] = replay(path)
    assert (answer.text, answer.finish_reason, answer.error) == ("Whisky.", "stop", None)


def test_an_earlier_ledger_answers_for_any_sampling(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.intend(["k"], [REQUEST], "teacher")
        ledger.record(["k"], [Completion("Whisky.", "stop", Usage(9, 3), model="big", reasoning="Hm.")], [0.1])
    [answer] = replay(path, Request(REQUEST.messages, Sampling(99, temperature=0.3)))
    assert (answer.text, answer.reasoning, answer.usage, answer.model) == ("Whisky.", "Hm.", Usage(9, 3), "big")


def test_a_ledgers_samples_keep_their_numbers_and_second_answers_come_after_them(tmp_path):
    path = tmp_path / "ledger.sqlite"
    came = [(1, "first teacher, 1"), (0, "first teacher, 0"), (1, "second teacher, 1"), (0, "second teacher, 0")]
    with Ledger(path) as ledger:
        for number, (sample, text) in enumerate(came):
            ledger.intend([str(number)], [Request(REQUEST.messages, REQUEST.sampling, sample)], "teacher")
            ledger.record([str(number)], [Completion(text, "stop")], [0.1])
    answers = replay(path, *(Request(REQUEST.messages, REQUEST.sampling, sample) for sample in range(4)))
    assert [answer.text for answer in answers] == ["first teacher, 0", "first teacher, 1", "second teacher, 0", "second teacher, 1"]


def test_a_sample_that_has_no_answer_in_the_ledger_is_not_given_anothers(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.intend(["k"], [Request(REQUEST.messages, REQUEST.sampling, 1)], "teacher")
        ledger.record(["k"], [Completion("Rum.", "stop")], [0.1])
    none, rum = replay(path, REQUEST, Request(REQUEST.messages, REQUEST.sampling, 1))
    assert (none.finish_reason, rum.text) == ("error", "Rum.")


def test_a_recording_is_closed_when_it_was_read(tmp_path):
    path = tmp_path / "recorded.jsonl"
    path.write_text(json.dumps({"prompt": "x", "completion": "y"}), encoding="utf-8")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ResourceWarning)
        ReplayModel(path)
        gc.collect()
    assert not [warning for warning in said if path.name in str(warning.message)]


def test_equal_questions_are_samples_and_what_is_not_recorded_is_an_error(tmp_path):
    path = tmp_path / "recorded.jsonl"
    lines = [json.dumps({"messages": [*TURNS, {"role": "assistant", "content": text}]}) for text in ("one", "two")]
    path.write_text("\n".join(lines), encoding="utf-8")
    asked = [Request(REQUEST.messages, REQUEST.sampling, sample) for sample in range(3)]
    one, two, three = replay(path, *asked)
    assert (one.text, two.text) == ("one", "two")
    assert three.error == "is not among the recorded answers of recorded.jsonl (sample 3)"
    [other] = replay(path, Request((Message("user", "?"),), Sampling(8)))
    assert other.finish_reason == "error"


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "holds no recorded answer"), ("{", ":1: is not JSON"), ('{"a": 1}', ":1: holds no question"), ("[1]", ":1: holds no question")],
)
def test_what_is_no_recording_is_told(tmp_path, text, words):
    path = tmp_path / "recorded.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=words):
        ReplayModel(path)


def test_another_recording_is_another_model(tmp_path):
    for name, answer in (("a", "Whisky."), ("b", "Rum.")):
        (tmp_path / name).write_text(json.dumps({"prompt": "x", "completion": answer}), encoding="utf-8")
    assert ReplayModel(tmp_path / "a").identity != ReplayModel(tmp_path / "b").identity

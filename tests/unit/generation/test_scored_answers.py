"""Accepted answers are scored by an endpoint that did not write them: once each, within the budget, and found again."""

import json
import re

import pytest

from potstill.errors import BudgetError, ModelError, SpecError
from potstill.generation.stage import judge_again, work
from potstill.models.said import SAID, SaidFile
from potstill.models.testing import OpenAIStub, refused
from potstill.records import Example, Message
from potstill.spec import RunSpec
from potstill.store.atomic import read_json, write_jsonl
from potstill.store.run import open_run

COUNT = 36


def say(payload):
    number = int(re.search(r"\d+", payload["messages"][-1]["content"])[0])
    return "I'm sorry, but I can't help with that." if number % 6 == 5 else f"The number is {number}"


def run_of(folder, scorer, *, teacher=None, spec=None, **generation):
    given = {
        "name": "x",
        "task": {"type": "summarization", "max_new_tokens": 6},
        "data": {"train": str(folder / "t.jsonl"), "test_duplicates": "allow"},
        "teacher": teacher or {"replay": str(folder / "said.jsonl")},
        "student": {"model": "s"},
        "generation": {"pilot": {"rows": 0}, "scorer": scorer if isinstance(scorer, dict) else {"model": "m", "base_url": scorer}}
        | generation,
        "gates": {"truncation": False},
        "targets": {"kind": "logprobs", "k": 2},
    }
    run = open_run(RunSpec.model_validate(given | (spec or {})), folder / "run")
    rows = [Example(f"row-{n}", (Message("user", f"Say {n} in words."),), reference=("x",)) for n in range(COUNT)]
    run.path("data").mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation"):
        write_jsonl(run.path("data", f"{split}.jsonl"), (row.to_json() for row in (rows if split == "train" else rows[:2])))
    run.stage("data").finish({}, [run.path("data", "train.jsonl"), run.path("data", "validation.jsonl")])
    run.path("generation").mkdir(exist_ok=True)
    # Answers kept from elsewhere: references, or an earlier run's.
    recorded = ({"prompt": row.messages[0].content, "completion": say({"messages": [row.messages[0].to_json()]})} for row in rows)
    (folder / "said.jsonl").write_text("".join(json.dumps(row) + "\n" for row in recorded))
    return run


def accepted(run):
    return [json.loads(line) for line in run.path("generation", "accepted.jsonl").read_text().splitlines()]


def test_answers_that_somebody_else_wrote_are_scored_once_each(tmp_path):
    with OpenAIStub(scores=True) as stub:
        run = run_of(tmp_path, stub.base_url)
        work(run, resumed=False)
        kept = accepted(run)
        assert len(kept) == COUNT - COUNT // 6
        assert sorted(call["messages"][-1]["content"] for call in stub.calls) == sorted(row["messages"][-1]["content"] for row in kept)
        said = SaidFile(run.path("generation", SAID))
        assert len(said) == len(kept)
        for row in map(Example.from_json, kept):
            tokens = said.find(row.messages[:-1], row.messages[-1].content)
            assert "".join(one.token for one in tokens) == f"{row.messages[-1].content}<|im_end|>"
        before = {name: run.path("generation", name).read_bytes() for name in ("accepted.jsonl", SAID)}
        asked = len(stub.calls)
        work(run, resumed=True)
        assert len(stub.calls) == asked
        assert {name: run.path("generation", name).read_bytes() for name in before} == before
        assert judge_again(run).waiting == 0
        assert {name: run.path("generation", name).read_bytes() for name in before} == before
    usage = read_json(run.path("generation", "usage.json"))
    assert usage["calls"] == COUNT + len(kept)


def test_a_cap_stops_the_scoring_and_the_same_command_goes_on_from_there(tmp_path):
    with OpenAIStub(scores=True) as stub:
        run = run_of(tmp_path, stub.base_url, budget={"calls": COUNT + 18})
        with pytest.raises(BudgetError, match="the budget of 54 calls"):
            work(run, resumed=False)
        assert len(stub.calls) == 18
        run = run_of(tmp_path, stub.base_url, budget={"calls": COUNT + 30})
        work(run, resumed=True)
        assert len(stub.calls) == 30
        assert len(SaidFile(run.path("generation", SAID))) == 30


def test_an_endpoint_that_scores_nothing_is_found_out_by_its_first_answers(tmp_path):
    with OpenAIStub(say) as stub:
        run = run_of(tmp_path, stub.base_url, teacher={"model": "m", "base_url": stub.base_url}, pilot={"rows": 8})
        with pytest.raises(ModelError, match=r"generation\.scorer: m scored none of 7 answers: the endpoint gave no `prompt_logprobs`"):
            work(run, resumed=False)
        written = [call for call in stub.calls if "prompt_logprobs" not in call]
        assert len(written) == 8


def test_the_words_in_which_a_server_refuses_are_told(tmp_path):
    with OpenAIStub(always=refused(400, "prompt_logprobs is not supported")) as stub:
        run = run_of(tmp_path, stub.base_url)
        with pytest.raises(ModelError, match=r"scored none .*: 400: prompt_logprobs is not supported"):
            work(run, resumed=False)


def test_gates_that_let_more_through_wait_for_further_scores(tmp_path):
    with OpenAIStub(scores=True) as stub:
        work(run_of(tmp_path, stub.base_url), resumed=False)
        asked = len(stub.calls)
        wider = run_of(tmp_path, stub.base_url, spec={"gates": {"truncation": False, "refusal": False}})
        assert judge_again(wider).waiting == COUNT // 6
        work(wider, resumed=True)
        assert len(stub.calls) == asked + COUNT // 6


def test_who_scores_is_an_endpoint_and_has_something_to_score_for(tmp_path):
    with pytest.raises(ValueError, match=r"which are learnt with `targets\.kind: logprobs` alone"):
        run_of(tmp_path, "http://127.0.0.1:9/v1", spec={"targets": {"kind": "auto"}})
    recorded = run_of(tmp_path, {"replay": str(tmp_path / "said.jsonl")})
    with pytest.raises(SpecError, match="replay is no endpoint: name one with its `base_url`"):
        work(recorded, resumed=False)

"""A teacher behind a real OpenAI-compatible server: llama.cpp on loopback, serving the tiny model's GGUF."""

import asyncio
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from llama_server import llama_cpp_server
from potstill.data.ondisk import Dataset
from potstill.models.openai_http import OpenAIModel
from potstill.models.said import SAID, SaidFile
from potstill.models.tokens import token_bytes
from potstill.pipeline import run_pipeline
from potstill.records import Completion, Message, Request, Sampling
from potstill.spec import spec_from_dict
from potstill.spec.sections import TeacherSpec
from potstill.store.run import Run
from potstill.training.batches import next_token_positions
from potstill.training.rows import encode_rows
from potstill.training.targets.said import said_targets
from tiny import tiny_gguf, tiny_llama

ASKED = Request((Message("user", "Say something about number 3."),), Sampling(48))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("llama-cpp")
    model = tiny_llama(folder / "model", layers=2)
    rows = [{"prompt": f"Say something about number {i}, which is {i * 37}.", "completion": f"number {i}"} for i in range(30)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with llama_cpp_server(tiny_gguf(folder / "model.gguf", model), "tiny") as base_url:
        spec = {
            "name": "over-http",
            "task": {"type": "summarization", "max_new_tokens": 8},
            "data": {"train": "rows.jsonl", "validation_fraction": 0.2, "test_fraction": 0.2, "test_duplicates": "allow"},
            "teacher": {"model": "tiny", "base_url": base_url, "price": {"input_per_million": 1.0, "output_per_million": 2.0}},
            "student": {"model": str(model)},
            "gates": {"truncation": False},
            "training": {"epochs": 1, "batch_size": 4, "evaluations": 1},
            "evaluation": {"latency_rows": 2, "resamples": 100},
        }
        return run_pipeline(spec_from_dict(spec, folder), folder / "run")


def test_the_report_compares_three_systems(finished: Run) -> None:
    report = json.loads(finished.path("report.json").read_text())
    assert set(report["evaluation"]["systems"]) == {"teacher", "baseline", "student"}
    for system, timing in report["timings"]["systems"].items():
        assert timing["over_the_wire"] == (system == "teacher")
        assert [level["concurrency"] for level in timing["throughput"]] == [1, 2, 4, 8, 16]


def test_a_streamed_answer_is_that_of_an_ordinary_call_and_one_follows_the_other(tmp_path: Path) -> None:
    async def ask(base_url: str) -> list[list[Completion]]:
        teacher = OpenAIModel(TeacherSpec(model="tiny", base_url=base_url))
        try:
            return [[(await teacher.complete([replace(ASKED, streamed=streamed)]))[0] for _ in range(4)] for streamed in (False, True)]
        finally:
            await teacher.close()

    model = tiny_llama(tmp_path / "model", layers=2)
    with llama_cpp_server(tiny_gguf(tmp_path / "model.gguf", model), "tiny") as base_url:
        plain, streamed = asyncio.run(ask(base_url))
    assert streamed == [replace(answer, latency_s=found.latency_s) for answer, found in zip(plain, streamed, strict=True)]
    assert {answer.usage.output_tokens for answer in streamed} == {48}
    for answer in streamed:
        assert answer.first_token_s is not None
        assert 0 < answer.first_token_s < answer.latency_s


def test_the_teacher_s_answers_have_the_price_of_the_table_and_the_student_s_are_unknown(finished: Run) -> None:
    report = json.loads(finished.path("report.json").read_text())
    tokens = report["evaluation"]["systems"]["teacher"]["tokens_per_request"]
    each = report["cost"]["per_1000_requests"]
    assert each["teacher"] == {"dollars": pytest.approx((tokens["read"] * 1.0 + tokens["written"] * 2.0) / 1e3), "how": "price table"}
    assert each["student"] == {"dollars": None, "how": "unknown"}
    asked = json.loads(finished.path("generation", "usage.json").read_text())["dollars"]
    assert report["cost"]["distillation"]["teacher_calls"] > asked, "the evaluation asks too"


def test_every_answer_and_its_price_is_on_record(finished: Run) -> None:
    usage = json.loads(finished.path("generation", "usage.json").read_text())
    accepted = finished.path("generation", "accepted.jsonl").read_text().splitlines()
    assert accepted
    with sqlite3.connect(finished.path("generation", "ledger.sqlite")) as ledger:
        answered = ledger.execute("select count(*) from attempt where state = 'answered'").fetchone()[0]
    assert answered == usage["calls"]
    expected = (usage["input_tokens"] * 1.0 + usage["output_tokens"] * 2.0) / 1e6
    assert usage["dollars"] == pytest.approx(expected)
    assert usage["dollars"] > 0


def test_what_the_server_says_of_its_tokens_is_what_the_model_computes(tmp_path: Path) -> None:
    """The student has the teacher's tokenizer, so that the targets must be the teacher's own likeliest tokens, position by position."""
    model = tiny_llama(tmp_path / "model", layers=2)
    rows = [{"prompt": f"Say something about number {i}, which is {i * 37}.", "completion": f"number {i}"} for i in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with llama_cpp_server(tiny_gguf(tmp_path / "model.gguf", model), "tiny") as base_url:
        spec = {
            "name": "log-probabilities",
            "task": {"type": "summarization", "max_new_tokens": 8},
            "data": {"train": "rows.jsonl", "validation_fraction": 0.2, "test_fraction": 0.2, "test_duplicates": "allow"},
            "teacher": {"model": "tiny", "base_url": base_url},
            "student": {"model": str(model)},
            "gates": {"truncation": False},
            "targets": {"kind": "logprobs", "k": 12},
            "training": {"epochs": 1, "batch_size": 4, "evaluations": 1},
        }
        run = run_pipeline(spec_from_dict(spec, tmp_path), tmp_path / "run", until="train")
    assert json.loads(run.path("training", "summary.json").read_text())["objective"] == "logits"

    tokenizer, module = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    accepted = list(Dataset(run.path("generation", "accepted.jsonl")))
    encoded = encode_rows(tokenizer, accepted, max_length=512).rows
    store, _ = said_targets(SaidFile(run.path("generation", SAID)), encoded, accepted, token_bytes(tokenizer.backend_tokenizer), 12)
    checked = 0
    for number in range(len(encoded)):
        positions, _ = next_token_positions(encoded[number])
        with torch.no_grad():
            expected = module(torch.from_numpy(encoded[number].ids.astype("int64"))[None]).logits[0, positions].log_softmax(-1).numpy()
        found = store.take(np.arange(store.starts[number], store.starts[number + 1]))
        for ids, logp, known in zip(found.ids_PK, found.logp_PK, expected, strict=True):
            named = ids >= 0
            if named.sum() > 8:  # not where half characters made the server say less
                checked += 1
                assert np.abs(logp[named] - known[ids[named]]).max() < 0.02
    assert checked >= 8

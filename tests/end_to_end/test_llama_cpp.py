"""A teacher behind a real OpenAI-compatible server: llama.cpp on loopback, serving the tiny model's GGUF."""

import json
import sqlite3

import pytest

from llama_server import llama_cpp_server
from potstill.pipeline import run_pipeline
from potstill.spec import spec_from_dict
from potstill.store.run import Run
from tiny import tiny_gguf, tiny_llama


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

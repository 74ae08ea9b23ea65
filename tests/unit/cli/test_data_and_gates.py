"""`potstill data` shows and exports what was generated; `potstill gates` judges it anew without a call."""

import json

import pytest
from typer.testing import CliRunner

from potstill.cli.main import app
from potstill.data.dataset import load_dataset
from potstill.errors import DataError, ModelError, StoreError, UsageError
from potstill.store.atomic import hash_file, read_json

SPEC = """
name: job
task: {type: summarization, max_new_tokens: 4}
data: {train: train.jsonl, validation: validation.jsonl, test: test.jsonl}
teacher: {model: echo}
student: {model: nowhere}
"""


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A finished generation: the echo repeats what the rows say, and two of them are longer than the task allows."""
    monkeypatch.chdir(tmp_path)
    texts = ["Fine words.", "Words that never come to an end", "More fine words.", "Other words that never come to an end"]
    for split, count in (("train", 4), ("validation", 1), ("test", 1)):
        rows = [{"prompt": f"{texts[n]}" if split == "train" else f"{split} {n}", "tags": [f"t{n}"]} for n in range(count)]
        if split != "train":
            rows = [row | {"reference": "gold"} for row in rows]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "potstill.yaml").write_text(SPEC, encoding="utf-8")
    run("generate", "potstill.yaml")
    return tmp_path


def run(*arguments: str) -> str:
    found = CliRunner().invoke(app, list(arguments))
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.output


def test_the_kept_and_the_dropped_rows_are_shown(job):
    kept = run("data", "potstill.yaml", "--limit", "1")
    assert "Fine words." in kept
    assert "echo · t0" in kept
    assert kept.count("──") == 1


def test_dropped_rows_are_filtered_by_their_reason(job):
    dropped = run("data", "potstill.yaml", "--reason", "truncation")
    assert "Words that never come" in dropped
    assert "ran into the token limit" in dropped
    assert "0 rows shown" in run("data", "potstill.yaml", "--reason", "refusal")


def test_turning_a_gate_off_brings_its_rows_back_without_a_call(job):
    before = (job / "runs/job/generation/ledger.sqlite").stat().st_mtime_ns
    output = run("gates", "potstill.yaml", "--set", "gates.truncation=false")
    assert before
    rows = [json.loads(line) for line in (job / "runs/job/generation/accepted.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 4
    frozen = read_json(job / "runs/job/generation/manifest.json")["files"]["accepted.jsonl"]
    assert frozen["sha256"] == hash_file(job / "runs/job/generation/accepted.jsonl")
    assert "4 kept" in output
    assert "stands already" in run("generate", "potstill.yaml", "--set", "gates.truncation=false")


def test_gates_that_change_nothing_leave_the_files_as_they_are(job):
    folder = job / "runs/job/generation"
    before = {name: (folder / name).read_bytes() for name in ("accepted.jsonl", "rejected.jsonl", "usage.json")}
    run("gates", "potstill.yaml")
    assert {name: (folder / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_exported_rows_load_as_they_were(job, name):
    run("data", "potstill.yaml", "--export", name)
    rows = list(load_dataset(job / name, conversation=True))
    assert [row.messages[-1].content for row in rows] == ["Fine words.", "More fine words."]


def test_openai_rows_hold_turns_alone(job):
    run("data", "potstill.yaml", "--export", "out.jsonl", "--format", "openai")
    rows = [json.loads(line) for line in (job / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [set(row) for row in rows] == [{"messages"}] * 2


def test_a_format_that_is_not_known_is_refused(job):
    with pytest.raises(UsageError, match="'doc' is not one of jsonl, openai, parquet"):
        run("data", "potstill.yaml", "--export", "out.doc")
    assert not (job / "out.doc").exists()


def test_where_nothing_was_generated_that_is_told(job):
    with pytest.raises(DataError, match="nothing was generated yet"):
        run("data", "potstill.yaml", "--set", "name=other")


def files(job):
    folder = job / "runs/job/generation"
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".jsonl") and path.name != "events.jsonl"}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("teacher.base_url=http://localhost:9/v1", "teachers"),
        ("teacher.temperature=0.5", "teachers"),
        ("generation.expand={rows: 2}", "generation.expand"),
        ("generation.balance={by: tag, how: ask}", "generation.balance"),
        ("seed=9", "seed"),
    ],
)
def test_gates_refuse_the_answers_of_another_spec_and_change_nothing(job, change, named):
    before = files(job)
    with pytest.raises(StoreError, match=rf"differs in {named}.*potstill generate"):
        run("gates", "potstill.yaml", "--set", change)
    assert files(job) == before
    assert "stands already" in run("generate", "potstill.yaml")


def test_gates_that_keep_nothing_change_nothing(job):
    before = files(job)
    with pytest.raises(ModelError, match="none has an answer that these gates keep"):
        run("gates", "potstill.yaml", "--set", "gates.min_characters=1000")
    assert files(job) == before
    assert "stands already" in run("generate", "potstill.yaml")


def test_gates_that_need_a_judge_where_none_was_asked_say_so(job):
    with pytest.raises(StoreError, match="no judge has marked these answers"):
        run("gates", "potstill.yaml", "--set", "gates.judge=0.5")


def test_other_gates_do_not_finish_a_stage_that_they_would_even_out_anew(job):
    even = ("--set", "generation.balance={by: tag, to: 1, how: ask}")
    run("generate", "potstill.yaml", *even)
    run("gates", "potstill.yaml", *even)
    assert "stands already" in run("generate", "potstill.yaml", *even)
    other = (*even, "--set", "gates.truncation=false")
    assert "other new prompts may be wanted" in run("gates", "potstill.yaml", *other)
    assert "goes on where it was cut" in run("generate", "potstill.yaml", *other)


def test_a_stage_that_was_cut_off_is_not_finished_by_its_gates(job):
    noted = job / "runs/job/generation/panel.json"
    noted.write_text(noted.read_text(encoding="utf-8").replace('"complete": true', '"complete": false'), encoding="utf-8")
    run("gates", "potstill.yaml", "--set", "gates.truncation=false")
    assert "goes on where it was cut" in run("generate", "potstill.yaml", "--set", "gates.truncation=false")

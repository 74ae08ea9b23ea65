"""Nothing is spent on a run that cannot end, and a folder is touched by its owner alone."""

import json
from pathlib import Path

import pytest

from potstill.errors import EndpointError, ModelError, StoreError
from potstill.generation import stage
from potstill.models.testing import OpenAIStub, refused
from potstill.pipeline import plan_run, run_pipeline
from potstill.spec import RunSpec, spec_from_dict
from potstill.store.run import RunLock

WORDS = ["amber", "bronze", "coral", "denim", "ebony", "fawn", "ginger", "hazel", "ivory", "jade"]


def spec(folder: Path, stub: OpenAIStub, student: Path, words: list[str] = WORDS) -> RunSpec:
    rows = [{"prompt": f"What is the colour {word} good for?", "completion": word} for word in words]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    raw = {
        "name": "mine",
        "task": {"type": "summarization"},
        "data": {"train": "rows.jsonl", "validation_fraction": 0.2, "test_fraction": 0.2, "near_duplicate": 1.0},
        "teacher": {"model": "stub", "base_url": stub.base_url, "max_attempts": 1},
        "student": {"model": str(student)},
    }
    return spec_from_dict(raw, folder)


def test_a_student_that_cannot_be_loaded_stops_a_run_before_the_teacher_is_asked(tmp_path: Path) -> None:
    with OpenAIStub() as stub:
        with pytest.raises(ModelError, match="there is no such folder"):
            run_pipeline(spec(tmp_path, stub, tmp_path / "missing"), tmp_path / "run")
        assert stub.calls == []


def test_a_bad_student_is_also_found_where_an_earlier_attempt_to_ask_was_cut(tmp_path: Path, tiny_teacher: Path) -> None:
    with OpenAIStub(always=refused(401)) as stub, pytest.raises(EndpointError):
        run_pipeline(spec(tmp_path, stub, tiny_teacher), tmp_path / "run")
    with OpenAIStub() as stub:
        with pytest.raises(ModelError, match="there is no such folder"):
            run_pipeline(spec(tmp_path, stub, tmp_path / "missing"), tmp_path / "run")
        assert stub.calls == []


def test_a_bad_student_is_also_found_where_the_rows_changed_since_the_teacher_answered(tmp_path: Path, tiny_teacher: Path) -> None:
    with OpenAIStub() as stub:
        run_pipeline(spec(tmp_path, stub, tiny_teacher), tmp_path / "run", until="generate")
        asked = len(stub.calls)
        assert asked > 0
        with pytest.raises(ModelError, match="there is no such folder"):
            run_pipeline(spec(tmp_path, stub, tmp_path / "missing", [*WORDS, "khaki"]), tmp_path / "run")
        assert len(stub.calls) == asked


def test_a_plan_knows_of_results_that_were_set_aside_and_would_be_put_back(tmp_path: Path, tiny_teacher: Path) -> None:
    folder = tmp_path / "run"
    with OpenAIStub() as stub:
        mine = spec(tmp_path, stub, tiny_teacher)
        run = run_pipeline(mine, folder, until="generate")
        asked = len(stub.calls)
        run.stage("generate").begin("an attempt of other inputs that was killed", discard=stage.DISCARD)
        before = sorted(folder.rglob("*"))
        plans = plan_run(mine, folder, until="train")
        assert [(plan.stage, plan.action) for plan in plans] == [("data", "skip"), ("generate", "skip"), ("train", "run")]
        assert "put back" in plans[1].reason
        assert sorted(folder.rglob("*")) == before
        run_pipeline(mine, folder, until="generate")
        assert len(stub.calls) == asked


def test_a_run_that_ends_before_training_needs_no_student(tmp_path: Path) -> None:
    with OpenAIStub() as stub:
        run = run_pipeline(spec(tmp_path, stub, tmp_path / "missing"), tmp_path / "run", until="generate")
    assert run.path("generation", "accepted.jsonl").exists()


def test_a_process_that_is_refused_leaves_the_running_runs_spec_as_it_is(tmp_path: Path, tiny_teacher: Path) -> None:
    folder = tmp_path / "run"
    with OpenAIStub() as stub:
        run_pipeline(spec(tmp_path, stub, tiny_teacher), folder, until="data")
        before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != ".lock"}
        with RunLock(folder), pytest.raises(StoreError, match="another potstill process"):
            run_pipeline(spec(tmp_path, stub, tmp_path / "other"), folder)
    assert {path: path.read_bytes() for path in before} == before

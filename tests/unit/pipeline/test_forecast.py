"""What is foretold follows the work that there is, and nothing is foretold where nobody can know."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from potstill.models.testing import OpenAIStub
from potstill.pipeline import run_pipeline
from potstill.pipeline.estimate import Bill, Machine, told_bill
from potstill.pipeline.forecast import Load, forecast, stage_seconds
from potstill.spec import PromptingSpec, RunSpec, spec_from_dict
from potstill.store.events import Event, StageStarted
from potstill.store.run import Run

LOAD = Load(*(Bill(rows, read=60 * rows, written=20 * rows) for rows in (100, 10, 20)), teacher=1e8, student=4e7)
WORDS = ["amber", "bronze", "coral", "denim", "ebony", "fawn", "ginger", "hazel", "ivory", "jade"]


def spec(folder: Path, teacher: dict[str, Any], **sections: Any) -> RunSpec:
    rows = [{"prompt": f"What is the colour {word} good for?", "completion": word} for word in WORDS]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    raw = {
        "name": "mine",
        "task": {"type": "summarization"},
        "data": {"train": "rows.jsonl", "validation_fraction": 0.2, "test_fraction": 0.2, "near_duplicate": 1.0},
        "teacher": teacher,
        "student": {"model": "org/student"},
        **sections,
    }
    return spec_from_dict(raw, folder)


def seconds(tmp_path: Path, speed: float = 1e11, load: Load = LOAD, **sections: Any) -> dict[str, float]:
    return dict(stage_seconds(spec(tmp_path, {"model": "org/teacher"}, **sections), load, Machine(speed, speed)))


def test_asking_takes_two_operations_a_weight_and_token(tmp_path: Path) -> None:
    assert seconds(tmp_path)["generate"] == pytest.approx(100 * 80 * 2 * 1e8 / 1e11)


def test_training_takes_six_of_the_student_and_two_of_a_teacher_whose_probabilities_are_learnt(tmp_path: Path) -> None:
    for kind, readings in (("live", 2), ("top_k", 0), ("auto", 0)):
        once, thrice = (seconds(tmp_path, training={"epochs": epochs}, targets={"kind": kind})["train"] for epochs in (1, 3))
        assert thrice - once == pytest.approx(100 * 80 * (2 * 6 * 4e7 + readings * 2 * 1e8) / 1e11), kind
    text = [seconds(tmp_path, training={"epochs": epochs, "objective": "sft"})["train"] for epochs in (1, 3)]
    assert text[1] - text[0] == pytest.approx(2 * 100 * 80 * 6 * 4e7 / 1e11)


def test_evaluation_takes_longer_with_each_system(tmp_path: Path) -> None:
    systems = ["student", "teacher", "baseline"]
    times = [seconds(tmp_path, evaluation={"systems": systems[: count + 1]})["evaluate"] for count in range(3)]
    assert times == sorted(times)
    assert times[1] - times[0] > times[2] - times[1], "the teacher is the larger"


def test_a_run_on_this_machine_is_foretold_from_its_rows_and_models_without_a_look_at_the_test_rows(
    tmp_path: Path, tiny_teacher: Path
) -> None:
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("an accelerator's speed is not foretold")
    run = run_pipeline(spec(tmp_path, {"model": str(tiny_teacher)}, student={"carve": {"layers": 2}}), tmp_path / "run", until="data")
    run.path("data", "test.jsonl").unlink()
    found = forecast(run, ["generate", "train", "evaluate"])
    assert list(found) == ["generate", "train", "evaluate"]
    assert all(value > 0 for value in found.values())


def test_nothing_is_foretold_of_an_endpoint_or_of_a_model_that_is_not_there(tmp_path: Path, tiny_teacher: Path) -> None:
    run = run_pipeline(spec(tmp_path, {"model": str(tiny_teacher)}), tmp_path / "run", until="data")
    for teacher in ({"model": "stub", "base_url": "http://127.0.0.1:1/v1"}, {"model": "./missing"}, {"model": "echo"}):
        assert forecast(Run(spec(tmp_path, teacher), run.folder, run.events), ["generate", "train"]) == {}


def test_each_stage_says_its_place_among_those_of_this_run(tmp_path: Path) -> None:
    heard: list[Event] = []
    with OpenAIStub() as stub:
        run_pipeline(
            spec(tmp_path, {"model": "stub", "base_url": stub.base_url}), tmp_path / "run", until="generate", listeners=[heard.append]
        )
    begun = [event for event in heard if isinstance(event, StageStarted)]
    assert [(event.stage, event.place, event.places, event.expected_s) for event in begun] == [
        ("data", 1, 2, None),
        ("generate", 2, 2, None),
    ]


def test_a_teacher_s_own_prompting_takes_time_when_it_teaches_and_when_it_is_examined_as_it_taught(tmp_path: Path) -> None:
    prompting = {"strategy": "chain_of_thought", "reasoning_tokens": 80}
    load = Load(LOAD.train, LOAD.validation, LOAD.test, LOAD.teacher, LOAD.student, told=100)
    alone = {"concurrency": [1]}  # no levels of throughput
    plain = seconds(tmp_path, generation={"prompting": prompting}, evaluation={"teacher_prompting": "plain"} | alone, load=load)
    taught = seconds(tmp_path, generation={"prompting": prompting}, evaluation=alone, load=load)
    assert taught["generate"] == plain["generate"] == pytest.approx(100 * (80 + 100 + 40) * 2 * 1e8 / 1e11)
    one_by_one = 13 * 40 * 1e8 / 2.5e9  # latency: 12 answers and one to warm up, with reasons
    assert taught["evaluate"] - plain["evaluate"] == pytest.approx(20 * (100 + 40) * 2 * 1e8 / 1e11 + one_by_one)
    two = {"concurrency": [1, 2]}
    plain_two = seconds(tmp_path, generation={"prompting": prompting}, evaluation={"teacher_prompting": "plain"} | two, load=load)
    taught_two = seconds(tmp_path, generation={"prompting": prompting}, evaluation=two, load=load)
    assert taught_two["evaluate"] - taught["evaluate"] > plain_two["evaluate"] - plain["evaluate"], "reasons are written there as well"


def test_rounds_read_the_rounds_before_them_again() -> None:
    rounds = PromptingSpec(strategy="chain_of_density", rounds=3)
    assert told_bill(rounds, Bill(10, read=100, written=50)) == Bill(30, read=300 + 3 * 50, written=150)

"""A teacher that learns the user's gold rows first: everything after it works with what became of it, and a kill changes nothing."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from test_killed_demo import DRIVER

from potstill.errors import DataError, ModelError, SpecError, StoreError
from potstill.models.folder import identity
from potstill.pipeline import judge_again, plan_run, run_pipeline
from potstill.spec import RunSpec, load_spec
from potstill.store.adapted import taught
from potstill.store.events import EventLog
from potstill.store.run import Run
from potstill.training.recipe import load_live_teacher
from tiny import tiny_llama, write_splits

COLOURS = ("cat", "dog")
SPEC = """\
name: animals
task: {{type: nli, labels_from: data, max_new_tokens: 4}}
data: {{train: train.jsonl, validation: validation.jsonl, test: test.jsonl}}
teacher: {{model: {teacher}, adapt: {{epochs: 8, batch_size: 4, learning_rate: 0.01, evaluations: 2, save_minutes: 0.001}}}}
student: {{carve: {{layers: 2}}}}
gates: {{format: false, truncation: false}}
generation: {{batch_size: 4}}
training: {{epochs: 2, batch_size: 4, evaluations: 1, compare_with_sft: true}}
evaluation: {{latency_rows: 2, resamples: 200}}
"""


def write_job(folder: Path, teacher: Path) -> Path:
    def row(split: str, i: int) -> dict[str, Any]:
        asked = {"id": f"{split}-{i}", "messages": [{"role": "user", "content": f"{split} {i}: a {COLOURS[i % 2]} of size {i * 7}?"}]}
        return asked if (split, i) == ("train", 5) else {**asked, "reference": COLOURS[i % 2]}

    write_splits(folder, row, train=24, validation=6, test=12)
    spec = folder / "potstill.yaml"
    spec.write_text(SPEC.format(teacher=teacher))
    return spec


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    return write_job(folder, tiny_llama(folder / "teacher", layers=3))


@pytest.fixture(scope="module")
def whole(job: Path) -> Path:
    folder = job.parent / "runs" / "animals"
    run_pipeline(load_spec(job), folder)
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def answers_of(model: Path, folder: Path) -> list[str]:
    """What the model answers to the test questions of a run, by transformers alone."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    module, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    answers = []
    for row in lines(folder / "evaluation" / "questions.jsonl"):
        ids = tokenizer.apply_chat_template(row["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True)
        written = module.generate(**ids, max_new_tokens=4, do_sample=False)[0][ids["input_ids"].shape[1] :]
        answers.append(tokenizer.decode(written, skip_special_tokens=True).strip())
    return answers


def test_the_adapted_teacher_is_the_one_that_is_measured(job: Path, whole: Path) -> None:
    measured = [row["text"].strip() for row in lines(whole / "evaluation" / "predictions" / "teacher.jsonl")]
    assert measured == answers_of(whole / "adaptation" / "best", whole)
    assert measured != answers_of(job.parent / "teacher", whole)


def test_the_rows_that_are_learnt_hold_the_adapted_teachers_answers(whole: Path) -> None:
    said = {row["messages"][-1]["content"] for row in lines(whole / "generation" / "accepted.jsonl")}
    assert said <= set(COLOURS), "a random teacher does not say a label alone"
    assert {row["teacher"] for row in lines(whole / "generation" / "accepted.jsonl")} == {str(whole.parent.parent / "teacher")}


def test_the_student_is_carved_out_of_the_adapted_teacher_and_pulled_to_its_probabilities(job: Path, whole: Path) -> None:
    adapted, given = (load_file(folder / "model.safetensors") for folder in (whole / "adaptation" / "best", job.parent / "teacher"))
    baseline = load_file(whole / "training" / "baseline" / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    assert baseline[name].equal(adapted[name])
    assert not baseline[name].equal(given[name])
    spec = load_spec(job)
    beside = spec.model_copy(update={"targets": spec.targets.model_copy(update={"kind": "live"})})
    live = load_live_teacher(taught(Run(beside, whole, EventLog())), "logits")
    assert live is not None
    assert live.module.state_dict()[name].equal(adapted[name])


def test_the_report_tells_of_it_with_the_score_before_and_after(whole: Path) -> None:
    adapted = json.loads((whole / "report.json").read_text())["adaptation"]
    assert (adapted["gold_rows"], adapted["rows"], adapted["validation_questions"], adapted["metric"]) == (23, 23, 6, "accuracy")
    assert adapted["metric_before"] < adapted["best_metric"]
    said = f"references of 23 training rows before it was asked; Accuracy on 6 validation questions {adapted['metric_before']:.3f} before, "
    for page in ("report.html", "model_card.md"):
        assert said in (whole / page).read_text()
    assert any(name.startswith("adaptation/best/") for name in json.loads((whole / "manifest.json").read_text())["files"])


def test_the_report_compares_the_student_with_plain_fine_tuning_on_the_same_questions(whole: Path) -> None:
    report = json.loads((whole / "report.json").read_text())
    scores = {system: found["scores"]["accuracy"]["value"] for system, found in report["evaluation"]["systems"].items()}
    assert list(scores) == ["teacher", "baseline", "sft", "student"]
    difference = report["distillation"]["difference"]
    assert difference["value"] == pytest.approx(scores["student"] - scores["sft"])
    assert difference["interval"]["low"] <= difference["value"] <= difference["interval"]["high"]
    assert report["sft"]["steps_planned"] == report["training"]["steps_planned"]
    for page in ("report.html", "model_card.md"):
        assert "Did distillation help? " in (whole / page).read_text()


def test_what_is_made_of_the_teacher_is_made_anew_when_it_is_adapted_otherwise(job: Path, whole: Path) -> None:
    def actions(*changes: str) -> list[str]:
        return [plan.action for plan in plan_run(load_spec(job, list(changes)), whole)]

    assert actions() == ["skip"] * 6
    assert actions("teacher.adapt.save_minutes=3") == ["skip"] * 5 + ["run"], "the report shows the spec"
    assert actions("teacher.adapt.epochs=3") == ["skip"] + ["run"] * 5
    assert actions("training.epochs=3") == ["skip"] * 3 + ["run"] * 3
    assert actions("teacher.adapt=null") == ["skip"] + ["run"] * 4


def test_a_run_folder_that_was_moved_stands(job: Path, whole: Path) -> None:
    moved = whole.with_name("moved")
    shutil.copytree(whole, moved)
    assert [plan.action for plan in plan_run(load_spec(job), moved)] == ["skip"] * 6
    _, waiting = judge_again(load_spec(job, ["gates.min_characters=1"]), moved)
    assert waiting == 0


def test_gates_before_the_teacher_was_adapted_say_what_to_run(job: Path, tmp_path: Path) -> None:
    run_pipeline(load_spec(job), tmp_path / "run", until="data")
    with pytest.raises(StoreError, match="stage `adapt` has not been finished"):
        judge_again(load_spec(job), tmp_path / "run")


def test_a_killed_adaptation_goes_on_to_the_very_weights_of_one_that_was_not(job: Path, whole: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", DRIVER, "event", '"task": "training"', "30", "adapt", str(job), "--runs", str(tmp_path)]
    assert subprocess.run(command, capture_output=True, check=False, timeout=120).returncode == -signal.SIGKILL
    assert list((tmp_path / "animals" / "adaptation" / "checkpoints").glob("checkpoint-*"))
    run_pipeline(load_spec(job), tmp_path / "animals", until="adapt")
    events = lines(tmp_path / "animals" / "events.jsonl")
    assert [event["resumed"] for event in events if event["event"] == "StageStarted" and event["stage"] == "adapt"] == [False, True]
    assert identity(tmp_path / "animals" / "adaptation" / "best") == identity(whole / "adaptation" / "best")


def changed(job: Path, **sections: Any) -> RunSpec:
    return RunSpec.model_validate(load_spec(job).model_dump() | sections)


def test_an_endpoint_cannot_be_adapted(job: Path, tmp_path: Path) -> None:
    teacher = {"model": "m", "base_url": "http://127.0.0.1:1/v1", "adapt": {}}
    spec = changed(job, teacher=teacher, student={"model": str(job.parent / "teacher")})
    with pytest.raises(ModelError, match=r"`teacher\.adapt` trains a teacher's weights, but m is an endpoint"):
        run_pipeline(spec, tmp_path / "run")
    with pytest.raises(ModelError, match="answers from a recording"):
        run_pipeline(changed(job, teacher={"replay": str(job), "adapt": {}}, student=spec.student), tmp_path / "run", until="adapt")


def test_without_a_reference_there_is_nothing_to_adapt_to(job: Path, tmp_path: Path) -> None:
    rows = [{"id": f"t{i}", "prompt": f"Which animal is number {i}?"} for i in range(8)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = load_spec(job).data.model_dump() | {"train": str(tmp_path / "train.jsonl")}
    spec = changed(job, data=data, task={"type": "nli", "labels": COLOURS})
    with pytest.raises(DataError, match=r"teacher\.adapt: none of 8 training rows has a `reference`"):
        run_pipeline(spec, tmp_path / "run")


def test_adapting_is_asked_for_and_of_the_first_teacher_alone(job: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"the spec has no `teacher\.adapt`"):
        run_pipeline(load_spec(job, ["teacher.adapt=null"]), tmp_path / "run", until="adapt")
    teachers = [{"model": "a"}, {"model": "b", "adapt": {}}]
    raw = load_spec(job).model_dump(exclude={"teacher"}) | {"teachers": teachers}
    with pytest.raises(ValueError, match=r"`teachers\[1\]\.adapt`: the first teacher alone can be adapted"):
        RunSpec.model_validate(raw)


def test_the_check_tells_how_long_it_takes_and_what_is_missing(job: Path, tmp_path: Path) -> None:
    from potstill.cli.examine import Examination

    def found(spec: RunSpec) -> Any:
        return Examination(spec, tmp_path / "run", offline=True).findings()

    assert "adapting the teacher about" in dict(found(load_spec(job)).facts)["time"]
    rows = [{"id": f"t{i}", "prompt": f"Which animal is number {i}?"} for i in range(8)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = load_spec(job).data.model_dump() | {"train": str(tmp_path / "train.jsonl")}
    problems = found(changed(job, data=data, task={"type": "nli", "labels": COLOURS})).problems
    assert [problem for problem in problems if "`teacher.adapt` learns the references" in problem]
    student = {"model": str(job.parent / "teacher")}
    assert "`teacher.adapt` trains a teacher's weights, but echo is an endpoint" in "\n".join(
        found(changed(job, teacher={"model": "echo", "adapt": {}}, student=student)).problems
    )

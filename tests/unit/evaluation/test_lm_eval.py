"""lm-eval's tasks tell what the student forgot; without the package, the spec is refused before anything is asked."""

import importlib.util
import json

import pytest
from examined import run_to_examine

from potstill.errors import ModelError
from potstill.evaluation import stage
from potstill.records import Example, Message
from potstill.spec import spec_from_dict
from potstill.store.atomic import read_json
from potstill.store.events import Noticed
from tiny import tiny_llama

INSTALLED = importlib.util.find_spec("lm_eval") is not None


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("models") / "student", layers=1)


def own_task(folder):
    """A task of two questions, in a folder of the user's own."""
    folder.mkdir()
    rows = [
        {"question": "The sky is", "answers": ["blue", "a fish"], "gold": 0},
        {"question": "Two and two are", "answers": ["five", "four"], "gold": 1},
    ]
    (folder / "rows.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = {
        "task": "two_questions",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "rows.json")}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{answers}}",
        "doc_to_target": "{{gold}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / "two.yaml").write_text(json.dumps(config))
    return folder


def run_with(folder, student, tasks, listeners=()):
    rows = [Example(str(n), (Message("user", f"number {n}"),), reference=("yes",)) for n in range(2)]
    evaluation = {"systems": ["teacher", "student"], "lm_eval": tasks}
    return run_to_examine(folder, student, rows, evaluation=evaluation, listeners=listeners)


def test_a_list_of_tasks_stands_for_the_section(tmp_path):
    raw = {"name": "n", "task": {"type": "summarization"}, "data": {"train": "t"}, "teacher": {"model": "echo"}, "student": {"model": "s"}}
    found = spec_from_dict(raw | {"evaluation": {"lm_eval": ["hellaswag"]}}, tmp_path).evaluation.lm_eval
    assert (found.tasks, found.rows, found.folder) == (("hellaswag",), None, None)


@pytest.mark.skipif(INSTALLED, reason="lm-eval is installed")
def test_without_the_package_it_is_said_what_to_install(tmp_path, student):
    run = run_with(tmp_path, student, ["hellaswag"])
    with pytest.raises(ModelError, match=r"`evaluation.lm_eval` needs the package lm-eval: pip install 'potstill\[lm-eval\]'"):
        stage.work(run, resumed=False)


@pytest.mark.skipif(not INSTALLED, reason="lm-eval is not installed")
def test_local_systems_answer_the_tasks_and_an_endpoint_is_left_out_with_a_word(tmp_path, student):
    events = []
    run = run_with(tmp_path / "run", student, {"tasks": ["two_questions"], "folder": str(own_task(tmp_path / "tasks"))}, [events.append])
    stage.work(run, resumed=False)
    found = read_json(run.path("evaluation", "scores.json"))["lm_eval"]["two_questions"]
    assert list(found) == ["student"]
    assert found["student"]["acc"]["value"] in (0.0, 0.5, 1.0)
    assert found["student"]["acc"]["stderr"] >= 0
    assert any("echo has none here" in event.text for event in events if isinstance(event, Noticed))
    kept = run.path("evaluation", "lm_eval", "student.json")
    before = kept.stat().st_mtime_ns
    stage.work(run, resumed=True)
    assert kept.stat().st_mtime_ns == before, "what stands is not taken again"


@pytest.mark.skipif(not INSTALLED, reason="lm-eval is not installed")
def test_an_unknown_task_is_named_with_a_near_one(tmp_path, student):
    run = run_with(tmp_path / "run", student, {"tasks": ["two_question"], "folder": str(own_task(tmp_path / "tasks"))})
    with pytest.raises(ModelError, match='no task "two_question"; did you mean two_questions'):
        stage.work(run, resumed=False)

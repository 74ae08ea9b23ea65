"""Students that are trained to be compared: alike where their rows and seeds are, and by the run's own objective."""

import json

import numpy as np
import pytest

from potstill.data.ondisk import Dataset
from potstill.pipeline.rehearsal import Arm, Rehearsal
from potstill.records import Example, Message
from potstill.spec import RunSpec
from potstill.store.events import EventLog, Noticed
from potstill.store.run import open_run
from potstill.training.recipe import load_validation

ANSWERS = ("Paris is the capital.", "The dog does not mind.", "card lost")


def example(number, answered=False):
    asked, answer = (Message("user", f"Summarise the text number {number}: the quick brown fox."),), ANSWERS[number % 3]
    said = (*asked, Message("assistant", answer)) if answered else asked
    return Example(f"row-{number}", said, (answer,), trained_turns=(1,) if answered else ())


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row.to_json()) + "\n" for row in rows))


@pytest.fixture
def run(tmp_path, tiny_teacher):
    """A run whose student is carved out of a local teacher, with a vocabulary trimmed to the data: it learns the teacher's probabilities."""
    spec = RunSpec.model_validate(
        {
            "name": "x",
            "task": {"type": "summarization", "max_new_tokens": 6},
            "data": {"train": str(tmp_path / "train.jsonl")},
            "teacher": {"model": str(tiny_teacher), "device": "cpu"},
            "student": {"carve": {"layers": 1, "vocabulary": "data"}, "device": "cpu"},
            "training": {"epochs": 1.0, "batch_size": 4, "learning_rate": 1e-2},
            "evaluation": {"metrics": ["chrf"]},
        }
    )
    found = open_run(spec, tmp_path / "run")
    for split, count in {"train": 12, "validation": 5}.items():
        write(found.path("data", f"{split}.jsonl"), [example(number) for number in range(count)])
    return found


def rehearsal(run, *rows):
    return Rehearsal(run, run.path("generation", "ablation"), load_validation(run, 10), rows)


def rows(*numbers):
    return Dataset.of(example(number, answered=True) for number in numbers)


def bar():
    with EventLog().progress("students", 4, "students") as progress:
        return progress


def test_students_learn_by_the_runs_objective_and_take_as_many_steps_whatever_their_rows(run):
    few, many = rows(*range(8)), rows(*range(12))
    troupe = rehearsal(run, many)
    first, second = (troupe.outcome(Arm(name, some, 0), bar()) for name, some in (("on", few), ("off", many)))
    assert first.training["objective"] == "logits"
    assert first.training == second.training == {"objective": "logits", "steps": 2, "batch_size": 4, "learning_rate": 0.01}
    assert first.statistics.shape == second.statistics.shape
    assert len(first.statistics) == 5


def test_the_same_rows_and_seed_make_the_same_student_from_anew_and_another_seed_another(run):
    some = rows(*range(12))
    first = rehearsal(run, some).outcome(Arm("on", some, 0), bar())
    folder = run.path("generation", "ablation")
    [result] = folder.glob("*/result.json")
    result.unlink()
    troupe = rehearsal(run, some)
    again, other = (troupe.outcome(Arm("on", some, seed), bar()) for seed in (0, 1))
    assert np.array_equal(first.statistics, again.statistics)
    assert not np.array_equal(first.statistics, other.statistics)


def test_a_student_beside_other_recorded_answers_is_another(run, tmp_path, tiny_teacher):
    recorded, some = tmp_path / "answers.jsonl", rows(0, 1)
    sections = {"teacher": {"replay": str(recorded)}, "student": {"model": str(tiny_teacher), "device": "cpu"}}
    replaying = open_run(RunSpec.model_validate(run.spec.model_dump() | sections), run.folder)
    for answers in ("{}\n", "{}\n", "[]\n"):
        recorded.write_text(answers)
        rehearsal(replaying, some).outcome(Arm("on", some, 0), bar())
    assert len(list(run.path("generation", "ablation").glob("*/result.json"))) == 2


def test_tidying_keeps_scores_alone(run):
    some = rows(*range(12))
    troupe = rehearsal(run, some)
    troupe.outcome(Arm("on", some, 0), bar())
    unfinished = run.path("generation", "ablation", "unfinished", "checkpoints")
    unfinished.mkdir(parents=True)
    troupe.tidy()
    [kept] = run.path("generation", "ablation").iterdir()
    assert {path.name for path in kept.iterdir()} == {"result.json", "metrics.jsonl"}


def test_a_note_of_every_training_is_told_once(run):
    seen = []
    noisy = open_run(
        run.spec.model_copy(update={"training": run.spec.training.model_copy(update={"max_length": 60})}), run.folder, (seen.append,)
    )
    long = Example("long", (Message("user", "word " * 200), Message("assistant", "card lost")), trained_turns=(1,))
    some = Dataset.of([*(example(number, answered=True) for number in range(8)), long])
    troupe = rehearsal(noisy, some)
    for seed in (0, 1):
        troupe.outcome(Arm("on", some, seed), bar())
    assert sum("are left out" in event.text for event in seen if isinstance(event, Noticed)) == 1

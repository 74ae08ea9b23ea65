"""The evaluation tells which of its references the student has learnt as a teacher's answer."""

from pathlib import Path

import pytest

from potstill.evaluation.leaks import answer_leaks
from potstill.evaluation.predict import build_questions
from potstill.records import Example, Message
from potstill.spec import TaskSpec, spec_from_dict
from potstill.store.atomic import write_jsonl
from potstill.store.run import Run, open_run
from potstill.tasks import build_task

GOLD = "The ferry to the northern islands leaves at noon from the old harbour, weather permitting."
QUESTIONS = [
    Example("q0", (Message("user", "When does it leave?"),), reference=("At noon.", GOLD)),
    Example(
        "q1",
        (Message("user", "Whose is it?"),),
        reference=("It belongs to three brothers who bought it with the money of their late aunt.",),
    ),
]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    raw = {"name": "x", "task": {"type": "qa"}, "data": {"train": "t"}, "teacher": {"model": "echo"}, "student": {"model": "a/b"}}
    return open_run(spec_from_dict(raw, tmp_path), tmp_path / "run")


def leaks(run: Run, *answers: str) -> dict:
    rows = [
        Example(f"a{number}", (Message("user", "And then?"), Message("assistant", answer)), trained_turns=(1,))
        for number, answer in enumerate(answers)
    ]
    write_jsonl(run.path("generation", "accepted.jsonl"), (row.to_json() for row in rows))
    return answer_leaks(run, build_questions(build_task(TaskSpec(type="qa", answer="open")), QUESTIONS))["answers_references"]


def test_a_learnt_answer_that_is_a_reference_is_shown_with_the_question_it_gives_away(run: Run) -> None:
    found = leaks(run, "At noon.", "Nobody knows where the other boat of the company went that winter.", GOLD.upper())
    assert (found["exact"], found["near"], found["paraphrase"]) == (1, 0, 0)
    (example,) = found["examples"]
    assert (example["train_id"], example["test_id"], example["test"]) == ("a2", "q0", GOLD)
    assert found["compared"] == {"learnt": 2, "test": 2, "for_paraphrases": [2, 2]}


def test_a_learnt_answer_in_the_same_words_is_a_paraphrase(run: Run) -> None:
    found = leaks(run, "Weather permitting, from the old harbour at noon the ferry leaves to the northern islands.")
    assert (found["exact"], found["near"], found["paraphrase"]) == (0, 0, 1)


def test_a_student_that_learnt_from_no_teacher_has_learnt_no_reference_of_one(run: Run) -> None:
    found = answer_leaks(run, build_questions(build_task(TaskSpec(type="qa", answer="open")), QUESTIONS))["answers_references"]
    assert (found["exact"], found["compared"]["learnt"]) == (0, 0)

"""Do the teacher's answers, which the student learnt, give the references of the test away?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from potstill.data.leaks import Leaks, find_leaks
from potstill.data.ondisk import Dataset
from potstill.evaluation.predict import Question
from potstill.records import Example
from potstill.store.run import Run


def answer_leaks(run: Run, questions: Sequence[Question]) -> dict[str, Any]:
    """The content of `evaluation/leaks.json`: learnt answers that stand among the test's references, exactly, nearly or in other words."""
    path = run.path("generation", "accepted.jsonl")
    if not path.exists():
        return {"answers_references": Leaks().to_json()}  # a student that learnt from no teacher
    accepted = Dataset(path)
    references = [(question.id, text) for question in questions for text in question.references]
    with run.events.progress("looking for references among the answers", len(accepted), "rows") as progress:
        leaks = find_leaks(accepted, _answers, references, run.spec.data.near_duplicate, progress.advance)
    return {"answers_references": leaks.to_json()}


def _answers(row: Example) -> Iterator[str]:
    return (row.messages[turn].content for turn in row.trained_turns)

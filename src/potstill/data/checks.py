"""What a task demands of its rows beyond their form: references that it can score."""

from __future__ import annotations

from potstill.data.intake import Check
from potstill.data.labels import label_check
from potstill.data.rows import quote
from potstill.records import Example
from potstill.spec.sections import TaskSpec
from potstill.tasks import build_task


def row_check(task: TaskSpec) -> Check | None:
    """The check of a task's rows: labels are of the given set, gold choices are letters of the prompt's options."""
    if task.type == "qa" and task.answer == "choice":
        return letter_check(task)
    return label_check(task)


def letter_check(spec: TaskSpec) -> Check:
    """What a multiple-choice task demands of a row: references are letters (`B`, `B. Paris`), and of the options in the prompt."""
    task = build_task(spec.model_copy(update={"answer_schema": None}))  # answers obey it, references need not

    def check(example: Example) -> Example | list[str]:
        letterless = [text for text in example.reference if task.parse(text) is None]
        if letterless:
            return [
                f"reference {quote(text)} is no letter of a choice; write the letter (B), or set `task.answer: open`" for text in letterless
            ]
        foreign = [f"reference {quote(text)}: {fault}" for text in example.reference if (fault := task.verify(example, text))]
        return foreign or example

    return check

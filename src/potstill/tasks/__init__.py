"""The task types, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from potstill.spec.sections import PromptingSpec, TaskSpec
from potstill.store.atomic import canonical
from potstill.tasks.base import SingleTurn, Task
from potstill.tasks.conversation import conversation
from potstill.tasks.math import math
from potstill.tasks.nli import nli
from potstill.tasks.qa import qa
from potstill.tasks.reasons import AfterReasons, answer_tokens
from potstill.tasks.schema import HeldToSchema
from potstill.tasks.summarization import summarization
from potstill.tasks.translation import translation

__all__ = ["TASKS", "Task", "answer_tokens", "build_task"]

TASKS: dict[str, Callable[[TaskSpec, Sequence[str]], SingleTurn]] = {
    "nli": nli,
    "conversation": conversation,
    "qa": qa,
    "math": math,
    "summarization": summarization,
    "translation": translation,
}


def build_task(spec: TaskSpec, labels: Sequence[str] = ()) -> Task:
    """The spec's task. `labels` are those found in the data, for `labels_from: data`.

    Raises SpecError where an nli task has fewer than two labels, or labels that cannot be told apart.
    """
    task = TASKS[spec.type](spec, labels)
    if spec.answer_schema is not None:
        return HeldToSchema(task, canonical(spec.answer_schema))
    if not spec.reasons:
        return task
    return AfterReasons(task, spec.reasoning_tokens or PromptingSpec().reasoning_tokens)

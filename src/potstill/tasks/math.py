"""Sums: answers are compared as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from potstill.records import Example
from potstill.spec.sections import TaskSpec
from potstill.tasks.base import SingleTurn
from potstill.tasks.metrics.math_value import final_answer, same_value
from potstill.tasks.replies import answer_part


@dataclass(frozen=True)
class Math(SingleTurn):
    """A solution with a final answer."""

    def parse(self, text: str) -> str | None:
        """The final answer in its normal form; `metrics.math_value.final_answer` says where it is looked for."""
        return final_answer(answer_part(text))

    def verify(self, example: Example, text: str) -> str | None:
        """Refuses an answer whose value differs from every reference; what cannot be settled in time is let pass."""
        answer = self.parse(text)
        if answer is None or not example.reference:
            return None
        if any(same_value(gold, answer) is not False for gold in example.reference):
            return None
        gold = " or ".join(final_answer(reference) or reference for reference in example.reference)
        return f"the answer is {answer}, the reference {gold}"


def math(spec: TaskSpec, labels: Sequence[str]) -> SingleTurn:
    """The math task."""
    del labels
    return Math(
        type=spec.type,
        metrics=("math_accuracy",),
        agreement="math_accuracy",
        max_new_tokens=spec.max_new_tokens or 512,
        instruction=spec.instruction,
    )

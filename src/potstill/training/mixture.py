"""Which rows a student learns beside the teacher's answers, and what each counts: rationales, and the user's own references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from potstill.data.ondisk import Dataset
from potstill.errors import TrainingError
from potstill.records import Example, Message
from potstill.spec.sections import RunSpec
from potstill.tasks.rationales import asks_why, rationale_row
from potstill.training.batches import TokenRows
from potstill.training.objectives.base import Objective, Teaching, learn_text_of
from potstill.training.objectives.step_by_step import task_weights


class Kind(IntEnum):
    """What a row teaches, in whose words."""

    ANSWER = 0
    RATIONALE = 1
    REFERENCE = 2
    REFERENCE_RATIONALE = 3


@dataclass(frozen=True)
class Mixture:
    """Rows to learn from, and the kind of each of these E conversations (None: all count alike, as they are).

    `rationale_weight` is that of the rationale task, None where its rows are rows like any; `reference_weight` what a token of the
    user's own words counts beside one of the teacher's.
    """

    rows: Sequence[Example]
    kinds_E: NDArray[np.int8] | None = None
    rationale_weight: float | None = None
    reference_weight: float = 1.0

    def weigh(self, rows: TokenRows) -> TokenRows:
        """The rows as they were encoded, with what each counts."""
        if self.kinds_E is None:
            return rows
        kinds_R = self.kinds_E[rows.examples]
        weights_R = np.ones(len(rows), dtype=np.float32)
        if self.rationale_weight is not None:
            is_rationale_R = (kinds_R == Kind.RATIONALE) | (kinds_R == Kind.REFERENCE_RATIONALE)
            if not is_rationale_R.any() or is_rationale_R.all():
                raise TrainingError("training.objective: step_by_step: all rows of one of its two tasks are left out; see the warnings")
            weights_R = task_weights(_trained_tokens(rows), is_rationale_R, rationale_weight=self.rationale_weight)
        weights_R = np.where(kinds_R >= Kind.REFERENCE, weights_R * np.float32(self.reference_weight), weights_R)
        return replace(rows, weights=weights_R)

    def teach(self, teaching: Teaching) -> Teaching:
        """The same objective, by which the user's own words are learnt as text: a teacher would not have said them."""
        kinds_E = self.kinds_E
        if kinds_E is None:
            return teaching

        def mixed(rows: TokenRows, module: object) -> Objective:
            objective = learn_text_of(teaching(rows, module), kinds_E[rows.examples] >= Kind.REFERENCE)
            return objective if self.rationale_weight is None else replace(objective, name=f"step_by_step/{objective.name}")

        return mixed


def mix(spec: RunSpec, accepted: Sequence[Example], train: Iterable[Example], *, answers_alone: bool = False) -> Mixture:
    """The rows that a spec's student learns: `accepted`, with rationales and references where they are asked for.

    `train` are the training rows as the user gave them. References stand beside accepted rows alone: what the gates hold back
    (as a repeated test row) does not come back this way. `answers_alone` leaves out the rationales of step-by-step distillation. Raises
    TrainingError where rationales are to be learnt, and there are none.
    """
    stepwise, weight = spec.training.objective == "step_by_step", spec.targets.weights.reference
    if not stepwise and not weight:
        return Mixture(accepted)
    kinds: list[Kind] = []

    def noted() -> Iterator[Example]:
        human = {row.id: row.rationale for row in train if row.rationale} if stepwise and weight else {}
        for row, kind in _mixed(accepted, human, stepwise=stepwise, references=weight > 0):
            if answers_alone and stepwise and kind in (Kind.RATIONALE, Kind.REFERENCE_RATIONALE):
                continue
            kinds.append(kind)
            yield row

    rows = Dataset.of(noted())
    if stepwise and not answers_alone and Kind.RATIONALE not in kinds and len(accepted):
        raise TrainingError(
            f"training.objective: step_by_step learns rationales, but none of {len(accepted):,} accepted rows has one: have the teacher "
            "give its reasons (`generation.prompting.strategy: chain_of_thought`), give rows a `rationale`, or take another objective"
        )
    rationale_weight = spec.training.rationale_weight if stepwise and not answers_alone else None
    return Mixture(rows, np.array(kinds, dtype=np.int8), rationale_weight, weight or 1.0)


def _mixed(accepted: Sequence[Example], human: dict[str, str], *, stepwise: bool, references: bool) -> Iterator[tuple[Example, Kind]]:
    asked_before: set[int] = set()
    for row, after in pairwise(_padded(accepted)):
        assert row is not None
        if asks_why(row):
            yield row, Kind.RATIONALE
            continue
        yield row, Kind.ANSWER
        if not row.trained_turns:
            continue
        asked = row.messages[: row.trained_turns[-1]]
        if stepwise and row.rationale and (after is None or not asks_why(after)):
            yield rationale_row(row, asked, row.rationale), Kind.RATIONALE
        if references and row.reference and hash(asked) not in asked_before:
            asked_before.add(hash(asked))
            gold = replace(row, id=f"{row.id}#gold", messages=(*asked, Message("assistant", row.reference[0])), distribution=())
            yield replace(gold, trained_turns=(len(asked),)), Kind.REFERENCE
            own = human.get(row.id)
            if own and own != row.rationale:
                yield rationale_row(gold, asked, own), Kind.REFERENCE_RATIONALE


def _padded(rows: Iterable[Example]) -> Iterator[Example | None]:
    """The rows, and nothing behind the last."""
    yield from rows
    yield None


def _trained_tokens(rows: TokenRows) -> NDArray[np.int64]:
    """Trained tokens of each row; its first token has no place that predicts it."""
    starts = rows.starts[:-1]
    return np.add.reduceat(rows.trained.astype(np.int64), starts) - rows.trained[starts]

"""Objectives: one file a method, one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from potstill.errors import CapabilityError
from potstill.spec.sections import RunSpec
from potstill.spec.sections.training import BESIDE_ANSWERS
from potstill.training.objectives.base import Ingredients, Objective
from potstill.training.objectives.logits import logits
from potstill.training.objectives.sft import sft

__all__ = ["OBJECTIVES", "Ingredients", "Objective", "ObjectiveName", "choose_objective"]

ObjectiveName = Literal["sft", "logits"]

OBJECTIVES: dict[ObjectiveName, Callable[[Ingredients], Objective]] = {
    "sft": sft,
    "logits": logits,
}


def choose_objective(spec: RunSpec, *, teacher_is_local: bool, same_tokens: Callable[[], bool]) -> ObjectiveName:
    """What `training.objective` means in this run.

    `auto` is `logits` where the teacher is local and reads the same tokens as the student (`same_tokens`, asked only where it
    matters) or is aligned with it, or where `targets.kind` names another source of probabilities; else `sft`. Raises CapabilityError
    where the teacher's probabilities are demanded and cannot be had.
    """
    wanted = spec.training.objective
    if wanted == "sft":
        return "sft"
    if spec.targets.kind in BESIDE_ANSWERS:
        return "logits"
    advice = "set `training.objective: sft`"
    if not teacher_is_local:
        problem = f"the teacher {spec.teacher.model} is an endpoint, which gives text alone"
    elif not spec.targets.align and not same_tokens():
        problem = f"the teacher {spec.teacher.model} and the student {spec.student.model} have different tokenizers, and are not aligned"
        advice = "set `targets.align: true`, or set `training.objective: sft`"
    else:
        return "logits"
    if wanted == "logits":
        raise CapabilityError(f"training.objective: logits needs the teacher's probabilities, but {problem}; {advice}")
    if spec.targets.positions == "all":
        raise CapabilityError(f"targets.positions: all needs the teacher's probabilities, but {problem}; set `targets.positions: answer`")
    return "sft"

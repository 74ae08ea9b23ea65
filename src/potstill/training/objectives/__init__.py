"""Objectives: one file a method, one line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from potstill.errors import CapabilityError
from potstill.spec.sections import RunSpec
from potstill.spec.sections.training import BESIDE_ANSWERS
from potstill.training.losses import DivergenceName
from potstill.training.objectives.base import Ingredients, Objective
from potstill.training.objectives.features import features
from potstill.training.objectives.logits import logits
from potstill.training.objectives.on_policy import on_policy
from potstill.training.objectives.sft import sft

__all__ = ["OBJECTIVES", "Ingredients", "Objective", "ObjectiveName", "choose_objective", "divergence_name"]

ObjectiveName = Literal["sft", "logits", "features", "on_policy"]

OBJECTIVES: dict[ObjectiveName, Callable[[Ingredients], Objective]] = {
    "sft": sft,
    "logits": logits,
    "features": features,
    "on_policy": on_policy,
}


def divergence_name(spec: RunSpec, objective: ObjectiveName) -> DivergenceName:
    """The divergence that the spec asks for, or that goes with the objective (`training.divergence: auto`)."""
    asked = spec.training.divergence
    if asked == "auto":
        return "jensen_shannon" if objective == "on_policy" else "forward_kl"
    return asked


def choose_objective(spec: RunSpec, *, teacher_is_local: bool, same_tokens: Callable[[], bool]) -> ObjectiveName:
    """What `training.objective` means in this run.

    `auto` is `logits` where the teacher is local and reads the same tokens as the student (`same_tokens`, asked only where it
    matters) or is aligned with it, or where `targets.kind` names another source of probabilities; else `sft`. Raises CapabilityError
    where more of the teacher than its text is demanded, and cannot be had.
    """
    # `step_by_step` says which rows are learnt, and what each counts (`training.mixture`); how, is found as `auto` finds it.
    wanted = "auto" if spec.training.objective == "step_by_step" else spec.training.objective
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
        return wanted if wanted in ("features", "on_policy") else "logits"
    if wanted != "auto":
        what = "hidden states" if wanted == "features" else "probabilities"
        raise CapabilityError(f"training.objective: {wanted} needs the teacher's {what}, but {problem}; {advice}")
    if spec.targets.positions == "all":
        raise CapabilityError(f"targets.positions: all needs the teacher's probabilities, but {problem}; set `targets.positions: answer`")
    if spec.targets.kind != "auto":
        kind = f"targets.kind: {spec.targets.kind}"
        raise CapabilityError(f"{kind} needs the teacher's probabilities, but {problem}; set `targets.kind: auto`")
    return "sft"

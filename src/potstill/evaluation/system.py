"""One that is examined, and how it is had."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from potstill.models.base import Model
from potstill.models.load import load_local, load_teacher, weights_of
from potstill.models.locate import is_local
from potstill.spec import RunSpec, TeacherSpec, WeightsSpec

Kind = Literal["teacher", "baseline", "student", "sft", "endpoint", "model", "run", "tfidf", "lead"]


@dataclass(frozen=True)
class System:
    """One that is examined: what it is called in files (`name`) and by people (`title`), and how it is had (`load`).

    `weights` are those of a local model, which is measured in a process of its own; None: it is not one. `asked` is the section of the spec
    that names a model; what such a one is asked counts against the run's budget.
    """

    name: str
    title: str
    kind: Kind
    load: Callable[[], Model]
    weights: WeightsSpec | None = None
    asked: TeacherSpec | None = None

    @property
    def recorded(self) -> bool:
        """Whether its answers are played back, so that there is nothing to time."""
        return self.asked is not None and self.asked.replay is not None


def asked_model(spec: RunSpec, model: TeacherSpec, name: str, kind: Kind) -> System:
    """A model that a section of the spec names: loaded here, or behind an endpoint."""
    weights = weights_of(model) if is_local(model) else None
    title = Path(model.title).name if Path(model.title).is_absolute() else model.title
    return System(name, title, kind, lambda: load_teacher(model, spec.generation), weights, model)


def trained_model(spec: RunSpec, folder: str, name: str, kind: Kind, *, title: str | None = None) -> System:
    """A model that a run has trained, loaded as its student is."""
    student = spec.student
    weights = WeightsSpec(model=folder, trust_remote_code=student.trust_remote_code, dtype=student.dtype, device=student.device)
    return System(name, title or name, kind, lambda: load_local(weights, spec.generation.batch_size), weights)

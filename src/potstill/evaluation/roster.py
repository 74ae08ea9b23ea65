"""Who is examined: the teacher, the baseline, the student, the plain one beside it, and who else the spec names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from potstill.evaluation.compare import BASELINE, SFT, STUDENT, TEACHER
from potstill.models.base import Model
from potstill.models.load import load_local, load_teacher, weights_of
from potstill.models.locate import is_local
from potstill.spec import RunSpec, TeacherSpec, WeightsSpec
from potstill.store.run import Run

Kind = Literal["teacher", "baseline", "student", "sft", "endpoint", "model", "run", "tfidf", "lead"]
_FOLDERS = {BASELINE: "baseline", STUDENT: "best", SFT: "sft/best"}


@dataclass(frozen=True)
class System:
    """One that is examined: what it is called in files (`name`) and by people (`title`), and how it is had (`load`).

    `weights` are those of a local model, which is measured in a process of its own; None: it is not one. Answers of a `charged` one count
    against the run's budget.
    """

    name: str
    title: str
    kind: Kind
    load: Callable[[], Model]
    weights: WeightsSpec | None = None
    charged: bool = False


def examined(run: Run) -> tuple[str, ...]:
    """The systems that the spec names, and before the student the plain one that was trained to be compared with it, if one was."""
    named = run.spec.evaluation.systems
    if not run.spec.training.compare_with_sft or "training/sft/summary.json" not in run.stage("train").outputs():
        return named
    place = named.index(STUDENT) if STUDENT in named else len(named)
    return (*named[:place], SFT, *named[place:])


def roster(run: Run) -> dict[str, System]:
    """The systems by name, in the order in which they are examined."""
    return {name: _system(run, name) for name in examined(run)}


def asked_model(spec: RunSpec, model: TeacherSpec, name: str, kind: Kind) -> System:
    """A model that a section of the spec names: loaded here, or behind an endpoint."""
    weights = weights_of(model) if is_local(model) else None
    return System(name, model.title, kind, lambda: load_teacher(model, spec.generation), weights, charged=True)


def trained_model(spec: RunSpec, folder: str, name: str, kind: Kind, *, title: str | None = None) -> System:
    """A model that a run has trained, loaded as its student is."""
    student = spec.student
    weights = WeightsSpec(model=folder, trust_remote_code=student.trust_remote_code, dtype=student.dtype, device=student.device)
    return System(name, title or name, kind, lambda: load_local(weights, spec.generation.batch_size), weights)


def _system(run: Run, name: str) -> System:
    if name == TEACHER:
        return asked_model(run.spec, run.spec.teacher, TEACHER, "teacher")
    return trained_model(run.spec, str(run.path("training", _FOLDERS[name])), name, name)  # type: ignore[arg-type]  # these are kinds

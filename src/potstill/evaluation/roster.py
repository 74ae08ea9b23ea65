"""Who is examined: the teacher, the baseline, the student, the plain one beside it, and who else the spec names."""

from __future__ import annotations

from potstill.evaluation.compare import BASELINE, SFT, STUDENT, TEACHER
from potstill.evaluation.extras import extra_systems
from potstill.evaluation.system import System, asked_model, trained_model
from potstill.store.run import Run

_FOLDERS = {BASELINE: "baseline", STUDENT: "best", SFT: "sft/best"}


def examined(run: Run) -> tuple[str, ...]:
    """The names of the systems, in the order in which they are examined."""
    return (*_own(run), *(other.key for other in run.spec.evaluation.compare))


def roster(run: Run) -> dict[str, System]:
    """The systems by name, in that order."""
    return {system.name: system for system in (*(_system(run, name) for name in _own(run)), *extra_systems(run))}


def _own(run: Run) -> tuple[str, ...]:
    """The run's own systems that the spec names, and before the student the plain one that was trained beside it, if one was."""
    named = run.spec.evaluation.systems
    if not run.spec.training.compare_with_sft or "training/sft/summary.json" not in run.stage("train").outputs():
        return named
    place = named.index(STUDENT) if STUDENT in named else len(named)
    return (*named[:place], SFT, *named[place:])


def _system(run: Run, name: str) -> System:
    if name == TEACHER:
        return asked_model(run.spec, run.spec.teacher, TEACHER, "teacher")
    return trained_model(run.spec, str(run.path("training", _FOLDERS[name])), name, name)  # type: ignore[arg-type]  # these are kinds

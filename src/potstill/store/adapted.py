"""The teacher that a run works with: the one that its spec names, or what stage `adapt` made of that.

This is the one place that knows where an adapted teacher lies. A stage that asks the teacher, learns from it or measures it gets the run as
`taught` returns it, whose spec names the adapted folder wherever it named the teacher; so nothing in those stages needs to know.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from potstill.spec import RunSpec
from potstill.spec.sections import TeacherSpec
from potstill.store.run import Run


def taught(run: Run) -> Run:
    """The run with its adapted teacher in the given one's place; as it is where none is adapted.

    Reports go on calling the teacher by its own name. Raises StoreError where the teacher is yet to be adapted.
    """
    spec = run.spec
    if spec.teacher.adapt is None:
        return run
    run.stage("adapt").outputs()  # raises where there are none
    teacher = _adapted(run, spec.teacher)
    teachers = (teacher, *spec.teachers[1:]) if spec.teachers else ()
    return replace(run, spec=spec.model_copy(update={"teacher": teacher, "teachers": teachers}), given=spec)


def given_spec(run: Run) -> RunSpec:
    """The spec as the user gave it."""
    return run.given or run.spec


def with_adapted(run: Run, inputs: dict[str, Any]) -> dict[str, Any]:
    """A stage's `inputs`, taken of the run as it was given, and the hashes of the adapted teacher, where there is one.

    Where that lies says nothing of what it is: a run folder may be moved.
    """
    return inputs if given_spec(run).teacher.adapt is None else {**inputs, "adapted": run.stage("adapt").outputs()}


def _adapted(run: Run, teacher: TeacherSpec) -> TeacherSpec:
    folder = run.path("adaptation", "best").absolute()
    return teacher.model_copy(update={"model": str(folder), "name": teacher.title, "revision": None, "adapt": None})

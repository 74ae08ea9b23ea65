"""Students that are trained to be compared, scored on validation rows, and thrown away; their scores are kept."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from potstill.data.ondisk import Dataset
from potstill.evaluation.sums import FloatArray
from potstill.models.locate import teacher_stamp, template_stamp, weights_stamp
from potstill.spec.sections import TrainingSpec, WeightsSpec
from potstill.store.atomic import fingerprint, read_object, write_json
from potstill.store.events import Event, EventLog, Noticed, Progress, Progressed
from potstill.store.run import Run
from potstill.training.recipe import fine_tuning, load_live_teacher, make_student, objective_name, student_weights
from potstill.training.teaching import build_teaching

if TYPE_CHECKING:
    from potstill.training.fine_tune import FineTuning
    from potstill.training.student import Student
    from potstill.training.validation import Validation

VERSION = 1
_RESULT = "result.json"
_KEPT = ("objective", "steps", "batch_size", "learning_rate")


@dataclass(frozen=True)
class Arm:
    """One training: what it is called, what it learns from, and its seed."""

    name: str
    rows: Dataset
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What came of an arm: its metric's statistics (n, s) of the n questions, and how it was trained."""

    statistics: FloatArray
    training: dict[str, Any]


class Rehearsal:
    """Trains arms in `folder`, each in a folder of its own that is named by all that its outcome depends on.

    They all start from one student, whose vocabulary, where it is trimmed to the data, holds what any of `all_rows` uses. The first arm
    says how many steps, rows a step and at which rate all others train.
    """

    def __init__(self, run: Run, folder: Path, validation: Validation, all_rows: Sequence[Dataset]) -> None:
        self._run, self._folder, self._validation, self._all_rows = run, folder, validation, all_rows
        self._objective_name = objective_name(run)
        self._origin = self._student_stamp()
        self._course: dict[str, Any] = {}
        self._told: set[str] = set()

    def outcome(self, arm: Arm, bar: Progress) -> Outcome:
        """The arm's outcome: known from before, or trained for now; one unit of `bar`."""
        folder = self._folder / self._key(arm)
        if (folder / _RESULT).exists():
            bar.skip(1)
        else:
            self._train(arm, folder, bar)
        known = read_object(folder / _RESULT, "statistics", "training")
        self._course = self._course or known["training"]
        return Outcome(np.asarray(known["statistics"], dtype=np.float64), known["training"])

    def tidy(self) -> None:
        """Remove the untrained student, and what arms of other specs that were never finished have left."""
        for path in self._folder.iterdir():
            if not (path / _RESULT).exists():
                shutil.rmtree(path)

    def _key(self, arm: Arm) -> str:
        spec, validation = self._run.spec, self._validation
        depends_on = {
            "version": VERSION,
            "rows": _hash(arm.rows),
            "seed": arm.seed,
            "student": self._origin,
            "objective": self._objective_name,
            "targets": spec.targets.model_dump(mode="json", exclude={"cache"}),
            # How often checkpoints are saved changes nothing that is learnt, and no arm has another beside it.
            "training": self._training().model_dump(mode="json", exclude={"save_minutes", "compare_with_sft"}),
            "steps": self._course.get("steps"),
            "questions": fingerprint([[[m.to_json() for m in q.messages], q.references, q.unit] for q in validation.questions]),
            "metric": [validation.metric.name, spec.task.model_dump(mode="json")],
        }
        return fingerprint(depends_on)[:16]

    def _student_stamp(self) -> str:
        """All that the untrained student, and a teacher beside it, depend on."""
        spec = self._run.spec
        trimmed = spec.student.carve is not None and spec.student.carve.vocabulary == "data"
        return fingerprint(
            {
                "student": spec.student.model_dump(mode="json"),
                "teacher": spec.teacher.model_dump(mode="json", include={"base_url", *WeightsSpec.model_fields}),
                "weights": [*map(teacher_stamp, spec.all_teachers), weights_stamp(spec.student.model)],
                "templates": [template_stamp(origin) for origin in (*spec.all_teachers, spec.student)],
                **({"shares": [[one.title, one.weight] for one in spec.teachers]} if len(spec.teachers) > 1 else {}),
                "rows": [_hash(rows) for rows in self._all_rows] if trimmed else None,
            }
        )[:16]

    def _training(self) -> TrainingSpec:
        """The spec's, but for what belongs to choosing a checkpoint, on the first arm's course."""
        settings = self._run.spec.training.model_dump(exclude={"patience"}) | {"evaluations": 1}
        return TrainingSpec.model_validate(settings | {name: self._course[name] for name in _KEPT[2:] if self._course})

    def _train(self, arm: Arm, folder: Path, bar: Progress) -> None:
        bar.advance(0, note=f"{arm.name}, seed {arm.seed}")
        student = self._student
        teach = partial(build_teaching, self._run, self._objective_name, student, self._teacher)
        from potstill.training.fine_tune import fine_tune

        job = replace(
            fine_tuning(self._run, student, teach, arm.rows, folder),
            training=self._training(),
            seed=arm.seed,
            steps=self._course.get("steps"),
            events=EventLog(None, (_Relay(self._run.events, bar, self._told),)),
        )
        summary, statistics = fine_tune(job).to_json(), self._score(job)
        result = {
            "arm": arm.name,
            "seed": arm.seed,
            "rows": len(arm.rows),
            "training": {name: summary[name] for name in _KEPT},
            "statistics": statistics.tolist(),
        }
        write_json(folder / _RESULT, result)
        for name in ("best", "checkpoints"):
            shutil.rmtree(folder / name, ignore_errors=True)
        metric = self._validation.metric
        self._run.events.info(f"{arm.name}, seed {arm.seed}: {metric.name} {metric.value(statistics.sum(axis=0)):.4f}")

    def _score(self, job: FineTuning) -> FloatArray:
        from potstill.models.transformers_local import TransformersModel
        from potstill.models.weights import load_weights

        weights = load_weights(student_weights(self._run.spec, job.folder / "best"))
        return self._validation.statistics(TransformersModel(weights, name="student"))

    @cached_property
    def _teacher(self) -> Any:
        return load_live_teacher(self._run, self._objective_name)

    @cached_property
    def _student(self) -> Student:
        rows = Dataset.of(itertools.chain.from_iterable(self._all_rows))
        return make_student(self._run, rows, self._folder / f"student-{self._origin}", self._teacher)


class _Relay:
    """Passes on what a training says: its steps as a part of one bar's unit, each note once for all trainings."""

    def __init__(self, events: EventLog, bar: Progress, told: set[str]) -> None:
        self._events, self._bar, self._told, self._done = events, bar, told, 0.0

    def __call__(self, event: Event) -> None:
        """Listen to one event."""
        if isinstance(event, Progressed) and event.total:
            share = event.done / event.total
            self._bar.advance(share - self._done)
            self._done = share
        elif isinstance(event, Noticed) and event.text not in self._told:
            self._told.add(event.text)
            self._events.emit(event)


def _hash(rows: Dataset) -> str:
    digest = hashlib.sha256()
    for line in rows.lines():
        digest.update(line)
    return digest.hexdigest()

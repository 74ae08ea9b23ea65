"""What a client and its backend say to each other: jobs that are asked for, jobs as they stand, models that came out of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from potstill.errors import SpecError
from potstill.spec import TaskType

Status = Literal["NotStarted", "Running", "Completed", "Failed", "Canceled"]
FINAL: tuple[Status, ...] = ("Completed", "Failed", "Canceled")


_TEXTS = (str, type(None))


def _check(record: object, names: str, kinds: tuple[type, ...], wanted: str) -> None:
    """Raises SpecError where one of the fields called `names` is of no kind that is `wanted`."""
    for name in names.split():
        value = getattr(record, name)
        if not isinstance(value, kinds):
            found = "missing" if value is None else f"of type {type(value).__name__}"
            raise SpecError(f"{type(record).__name__}: `{name}` is {found}; give {wanted}")


def _check_mappings(record: object, names: str) -> None:
    """None, as code for Azure has it, means that nothing is set."""
    for name in names.split():
        if getattr(record, name) is None:
            object.__setattr__(record, name, {})
    _check(record, names, (Mapping,), "a mapping of names to values")


@dataclass(frozen=True, kw_only=True)
class TeacherModelSettings:
    """How the teacher is asked: `inference_parameters` (temperature, top_p, max_tokens) and `endpoint_request_settings`
    (request_batch_size: calls in flight at once)."""

    inference_parameters: Mapping[str, object] = field(default_factory=dict)
    endpoint_request_settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises SpecError for fields of another kind."""
        _check_mappings(self, "inference_parameters endpoint_request_settings")


@dataclass(frozen=True, kw_only=True)
class DistillationJob:
    """A distillation to be run, in the words of Azure Machine Learning's SDK.

    Models are catalogue names, hub ids or paths, or mappings of the spec's keys (`{"model": ..., "base_url": ...}`). Data are
    paths. `task_type` and `data_generation_task_type` are two names of one thing, Azure's words for it (NLU_QA) included.
    `labels` are an nli task's; by default they are taken from the training rows' references. `instruction` is a system
    prompt for rows without one. `hyperparameters` take the usual names (`potstill.jobs.translate.HYPERPARAMETERS`);
    `settings` any key of the run spec, dotted: `{"training.objective": "sft"}`. A job with the name of an earlier one goes on
    with what that one left.
    """

    teacher_model: str | Path | Mapping[str, object]
    student_model: str | Path | Mapping[str, object]
    training_data: str | Path
    validation_data: str | Path | None = None
    test_data: str | Path | None = None
    task_type: str | None = None
    data_generation_task_type: str | None = None
    labels: Sequence[str] | None = None
    instruction: str | None = None
    hyperparameters: Mapping[str, object] = field(default_factory=dict)
    teacher_model_settings: TeacherModelSettings | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    name: str | None = None
    display_name: str | None = None
    experiment_name: str | None = None
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises SpecError for fields of another kind; what the values may be, the spec says."""
        _check_mappings(self, "hyperparameters settings tags")
        _check(self, "teacher_model student_model", (str, Path, Mapping), "a name, a path, or a mapping of the spec's keys")
        _check(self, "training_data", (str, Path), "a path")
        _check(self, "validation_data test_data", (str, Path, type(None)), "a path")
        _check(self, "task_type data_generation_task_type instruction name display_name experiment_name description", _TEXTS, "a text")
        _check(self, "teacher_model_settings", (TeacherModelSettings, type(None)), "TeacherModelSettings")
        _check(self, "labels", (list, tuple, type(None)), "a list of texts")


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands. `error` says why it failed; `models` names what it registers when it completes."""

    name: str
    status: Status
    folder: Path
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None
    models: tuple[str, ...]
    display_name: str | None = None
    experiment_name: str | None = None
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """A model that a job left: a transformers folder at `path`, and the job that made it. Versions count from 1."""

    name: str
    version: int
    path: Path
    job: str
    task_type: TaskType
    created_at: datetime


@dataclass(frozen=True, slots=True)
class EvaluationRequest:
    """Which model to evaluate, on which rows, by which metrics (None: those of the task, and the time an answer takes)."""

    model_name: str
    test_data: Path
    metrics: tuple[str, ...] | None = None
    version: int | None = None
    task_type: str | None = None

    def __post_init__(self) -> None:
        """Raises SpecError for fields of another kind."""
        _check(self, "model_name", (str,), "a model's name or path")
        _check(self, "test_data", (Path,), "a path")
        _check(self, "version", (int, type(None)), "a number")
        _check(self, "task_type", _TEXTS, "a text")
        _check(self, "metrics", (tuple, type(None)), "a list of names")
        if not all(isinstance(name, str) for name in self.metrics or ()):
            raise SpecError(f"EvaluationRequest: `metrics` are {self.metrics}; give names, as in ['accuracy']")

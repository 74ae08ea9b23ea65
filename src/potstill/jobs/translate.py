"""From a job in Azure's words to a run spec."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from potstill.errors import SpecError
from potstill.jobs.entities import DistillationJob
from potstill.spec import RunSpec, TaskType, spec_from_dict

HYPERPARAMETERS = {
    "learning_rate": "training.learning_rate",
    "batch_size": "training.batch_size",
    "per_device_train_batch_size": "training.batch_size",
    "epochs": "training.epochs",
    "num_epochs": "training.epochs",
    "n_epochs": "training.epochs",
    "num_train_epochs": "training.epochs",
    "warmup_ratio": "training.warmup_ratio",
    "weight_decay": "training.weight_decay",
    "max_grad_norm": "training.max_grad_norm",
    "max_seq_length": "training.max_length",
    "max_length": "training.max_length",
    "seed": "seed",
    "temperature": "teacher.temperature",
    "top_p": "teacher.top_p",
    "max_tokens": "task.max_new_tokens",
    "max_new_tokens": "task.max_new_tokens",
}
"""Names of hyperparameters, and the spec's keys that they set. `temperature` is the one that the teacher samples at."""

INFERENCE_PARAMETERS = {name: HYPERPARAMETERS[name] for name in ("temperature", "top_p", "max_tokens", "max_new_tokens")}
REQUEST_SETTINGS = {"request_batch_size": "generation.concurrency"}
_AZURE_TASKS = {"nlu_qa": "qa"}


def task_type_of(job: DistillationJob) -> str:
    """The task type in the spec's words. Raises SpecError where none, two different or an unknown one was given."""
    given = {task_type(name) for name in (job.task_type, job.data_generation_task_type) if name is not None}
    if len(given) != 1:
        found = "two different ones were given" if given else "none was given"
        raise SpecError(f"DistillationJob: a job has one task type, but {found}; set task_type to one of {', '.join(get_args(TaskType))}")
    return given.pop()


def task_type(name: str) -> TaskType:
    """A task type of any spelling (`CONVERSATION`, `NLU_QA`). Raises SpecError for an unknown one."""
    # Azure's own task types are texts and members of an enum at once, which print otherwise.
    word = name.lower() if isinstance(name, str) else str(name)
    plain = _AZURE_TASKS.get(word, word)
    for known in get_args(TaskType):
        if known == plain:
            found: TaskType = known
            return found
    raise SpecError(f'task_type "{name}" is not one of {", ".join([*get_args(TaskType), *_AZURE_TASKS])}')


def student_label(job: DistillationJob, name: str) -> str:
    """What the registered models are called after: the student's own name, or the job's where it is carved out of the teacher."""
    model = job.student_model.get("model") if isinstance(job.student_model, Mapping) else job.student_model
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(str(model)).name) if model else name


def spec_of(job: DistillationJob, name: str, folder: Path, defaults: Mapping[str, object]) -> RunSpec:
    """The run spec of a job that is called `name`; relative paths start at `folder`, `defaults` are dotted spec keys.

    What the job says itself goes before `defaults`. Raises SpecError with every name or value that is not acceptable.
    """
    raw: dict[str, Any] = {}
    for settings in (defaults, _sections(job, name), _named(job), job.settings):
        for key, value in settings.items():
            _put(raw, key, value)
    if raw["task"]["type"] == "nli" and not raw["task"].get("labels"):
        raw["task"]["labels_from"] = "data"
    try:
        return spec_from_dict(raw, folder)
    except SpecError as error:
        raise SpecError(str(error).replace(f"{folder / 'spec'}: ", "DistillationJob: ")) from None


def _sections(job: DistillationJob, name: str) -> dict[str, object]:
    given: dict[str, object] = {"name": name, "task.type": task_type_of(job)}
    optional = {
        "task.labels": list(job.labels) if job.labels is not None else None,
        "task.instruction": job.instruction,
        "data.train": str(job.training_data),
        "data.validation": str(job.validation_data) if job.validation_data is not None else None,
        "data.test": str(job.test_data) if job.test_data is not None else None,
    }
    given |= {key: value for key, value in optional.items() if value is not None}
    for section, model in (("teacher", job.teacher_model), ("student", job.student_model)):
        fields = model if isinstance(model, Mapping) else {"model": str(model.absolute()) if isinstance(model, Path) else model}
        given |= {f"{section}.{key}": value for key, value in fields.items()}
    return given


def _named(job: DistillationJob) -> dict[str, object]:
    found = _translated("hyperparameters", job.hyperparameters, HYPERPARAMETERS)
    if job.teacher_model_settings is not None:
        asking = job.teacher_model_settings
        found |= _translated("inference_parameters", asking.inference_parameters, INFERENCE_PARAMETERS)
        found |= _translated("endpoint_request_settings", asking.endpoint_request_settings, REQUEST_SETTINGS)
    return found


def _translated(what: str, given: Mapping[str, object], allowed: Mapping[str, str]) -> dict[str, object]:
    unknown = [name for name in given if name not in allowed]
    if unknown:
        names = ", ".join(f'"{name}"' for name in unknown)
        raise SpecError(f"{what}: {names} not known; allowed: {', '.join(sorted(allowed))}; any key of the spec can stand in `settings`")
    found: dict[str, object] = {}
    origin: dict[str, str] = {}
    for name, value in given.items():
        key = allowed[name]
        if key in found:
            raise SpecError(f'{what}: "{origin[key]}" and "{name}" are two names of one setting; give one of them')
        found[key], origin[key] = value, name
    return found


def _put(raw: dict[str, Any], dotted: str, value: object) -> None:
    *parents, last = str(dotted).split(".")
    section = raw
    for parent in parents:
        section = section.setdefault(parent, {})
        if not isinstance(section, dict):
            raise SpecError(f"settings: `{dotted}`: `{parent}` is a value, not a section")
    there = section.get(last)
    if there and isinstance(there, dict) and not isinstance(value, Mapping):
        raise SpecError(f"settings: `{dotted}` is a section, not a value; name one of its keys, as in `{dotted}.{next(iter(there))}`")
    section[last] = _merged(there, value)


def _merged(there: object, value: object) -> object:
    """A section that is set as a whole keeps the keys that it does not name."""
    if not isinstance(value, Mapping):
        return value
    before = there if isinstance(there, dict) else {}
    return before | {key: _merged(before.get(key), inner) for key, inner in value.items()}

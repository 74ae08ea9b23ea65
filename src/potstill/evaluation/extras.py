"""Who else is examined: models, other runs' students, and simple lines, as `evaluation.compare` names them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from potstill.data.labels import load_labels
from potstill.data.ondisk import Dataset
from potstill.evaluation.lead import LeadModel
from potstill.evaluation.problems import student_of
from potstill.evaluation.system import System, asked_model, trained_model
from potstill.evaluation.tfidf import TfidfModel, labelled_texts
from potstill.models.locate import is_local, teacher_stamp, template_stamp, weights_stamp
from potstill.spec.sections import OtherSpec
from potstill.store.run import Run
from potstill.tasks import build_task

_ACCEPTED = "generation/accepted.jsonl"
HOW_TO_REACH = {"api_key_env", "api_key_file", "headers", "timeout_s", "max_attempts", "price", "temperature", "top_p"}


def extra_systems(run: Run) -> Iterator[System]:
    """The systems of `evaluation.compare`, in order."""
    for other in run.spec.evaluation.compare:
        yield _system(run, other)


def _system(run: Run, other: OtherSpec) -> System:
    name, title, spec = other.key, other.title, run.spec
    if other.model is not None:
        model = other.model.model_copy(update={"name": title})
        return asked_model(spec, model, name, "model" if is_local(model) else "endpoint")
    if other.run is not None:
        return trained_model(spec, str(student_of(other.run)), name, "run", title=title)
    if other.baseline == "lead":
        return System(name, title, "lead", lambda: LeadModel(name))
    return System(name, title, "tfidf", lambda: _tfidf(run, name))


def _tfidf(run: Run, name: str) -> TfidfModel:
    task = build_task(run.spec.task, load_labels(run))
    return TfidfModel(labelled_texts(task, Dataset(run.path(_ACCEPTED))), name)


def extra_inputs(run: Run) -> list[dict[str, Any]]:
    """What the answers of these systems depend on."""
    found = []
    for other in run.spec.evaluation.compare:
        told: dict[str, Any] = {"name": other.key, "title": other.title, "baseline": other.baseline}
        if other.model is not None:
            told |= {"model": other.model.model_dump(mode="json", exclude=HOW_TO_REACH)}
            told |= {"weights": teacher_stamp(other.model), "template": template_stamp(other.model)}
        if other.run is not None:
            told |= {"run": weights_stamp(str(student_of(other.run).absolute()))}
        if other.baseline == "tfidf":
            told |= {"rows": run.stage("generate").outputs().get(_ACCEPTED)}
        found.append(told)
    return found

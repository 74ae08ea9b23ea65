"""Who else is examined: models, other runs' students, and simple lines, as `evaluation.compare` names them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from potstill.data.labels import load_labels
from potstill.data.ondisk import Dataset
from potstill.errors import ModelError, PotstillError
from potstill.evaluation.lead import LeadModel
from potstill.evaluation.system import System, asked_model, trained_model
from potstill.evaluation.tfidf import INSTALL, TfidfModel, is_installed, labelled_texts
from potstill.models.load import endpoint_of, weights_of
from potstill.models.locate import ECHO, is_local, teacher_stamp, template_stamp, weights_stamp
from potstill.models.look_up import look_up
from potstill.spec import RunSpec, TeacherSpec
from potstill.spec.sections import OtherSpec
from potstill.store.run import Run
from potstill.tasks import build_task

_ACCEPTED = "generation/accepted.jsonl"
_HOW_TO_REACH = {"api_key_env", "api_key_file", "headers", "timeout_s", "max_attempts", "price", "temperature", "top_p"}


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
        return trained_model(spec, str(_student_of(other.run)), name, "run", title=title)
    if other.baseline == "lead":
        return System(name, title, "lead", lambda: LeadModel(name))
    return System(name, title, "tfidf", lambda: _tfidf(run, name))


def _tfidf(run: Run, name: str) -> TfidfModel:
    task = build_task(run.spec.task, load_labels(run))
    return TfidfModel(labelled_texts(task, Dataset(run.path(_ACCEPTED))), name)


def _student_of(folder: Path) -> Path:
    return folder / "training" / "best"


def extra_inputs(run: Run) -> list[dict[str, Any]]:
    """What the answers of these systems depend on."""
    found = []
    for other in run.spec.evaluation.compare:
        told: dict[str, Any] = {"name": other.key, "title": other.title, "baseline": other.baseline}
        if other.model is not None:
            told |= {"model": other.model.model_dump(mode="json", exclude=_HOW_TO_REACH)}
            told |= {"weights": teacher_stamp(other.model), "template": template_stamp(other.model)}
        if other.run is not None:
            told |= {"run": weights_stamp(str(_student_of(other.run).absolute()))}
        if other.baseline == "tfidf":
            told |= {"rows": run.stage("generate").outputs().get(_ACCEPTED)}
        found.append(told)
    return found


def extra_problems(spec: RunSpec) -> Iterator[str]:
    """What would stop the evaluation because of them, known before anything is spent."""
    for other in spec.evaluation.compare:
        where = f"`evaluation.compare`: {other.key}"
        if other.run is not None and not (_student_of(other.run) / "config.json").is_file():
            yield f"{where}: {other.run} holds no trained student; name the folder of a run whose `potstill train` is done"
        if other.baseline == "tfidf" and not is_installed():
            yield f"{where} {INSTALL}"
        if other.model is not None:
            yield from (f"{where}: {problem}" for problem in model_problems(spec, other.model))


def model_problems(spec: RunSpec, model: TeacherSpec) -> Iterator[str]:
    """Why a model cannot be asked in the evaluation: not found here, or its price is needed for a cap and not known."""
    if is_local(model):
        yield from look_up(weights_of(model)).problems
    elif spec.generation.budget.dollars is not None and model.replay is None and (model.base_url or model.model != ECHO):
        try:
            price = endpoint_of(model).price
        except PotstillError as error:
            yield str(error)
            return
        if price is None:
            yield (
                f"nobody says what {model.title} costs, so the cap `generation.budget.dollars` cannot be kept; give its `price`, or cap "
                "`tokens` or `calls` instead"
            )


def require_extras(spec: RunSpec) -> None:
    """Raises ModelError with all that speaks against examining them."""
    if problems := list(extra_problems(spec)):
        raise ModelError("\n".join(problems))

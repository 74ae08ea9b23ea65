"""What would stop the evaluation, known before anything is spent. No torch and no event loop here."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

from potstill.errors import DataError, PotstillError
from potstill.evaluation.human import read_preferences
from potstill.models.load import endpoint_of, weights_of
from potstill.models.locate import ECHO, is_local
from potstill.models.look_up import look_up
from potstill.spec import RunSpec, TeacherSpec

ITSELF = "models favour their own answers: name another in `evaluation.judge`, or set its `may_judge_itself: true`"
INSTALL_LM_EVAL = "needs the package lm-eval: pip install 'potstill[lm-eval]'"
INSTALL_BASELINES = "needs the package scikit-learn: pip install 'potstill[baselines]'"


def evaluation_problems(spec: RunSpec) -> Iterator[str]:
    """All of it."""
    yield from _extra_problems(spec)
    yield from _judge_problems(spec)
    if spec.evaluation.lm_eval is not None and not has_lm_eval():
        yield f"`evaluation.lm_eval` {INSTALL_LM_EVAL}"


def student_of(run: Path) -> Path:
    """Where a run keeps its trained student."""
    return run / "training" / "best"


def has_lm_eval() -> bool:
    """Whether lm-eval is there."""
    return importlib.util.find_spec("lm_eval") is not None


def has_baselines() -> bool:
    """Whether scikit-learn is there."""
    return importlib.util.find_spec("sklearn") is not None


def _extra_problems(spec: RunSpec) -> Iterator[str]:
    """What would stop the evaluation because of them, known before anything is spent."""
    for other in spec.evaluation.compare:
        where = f"`evaluation.compare`: {other.key}"
        if other.run is not None and not (student_of(other.run) / "config.json").is_file():
            yield f"{where}: {other.run} holds no trained student; name the folder of a run whose `potstill train` is done"
        if other.baseline == "tfidf" and not has_baselines():
            yield f"{where} {INSTALL_BASELINES}"
        if other.model is not None:
            yield from (f"{where}: {problem}" for problem in _model_problems(spec, other.model))


def _model_problems(spec: RunSpec, model: TeacherSpec) -> Iterator[str]:
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


def _judge_problems(spec: RunSpec) -> Iterator[str]:
    """Why the judge cannot be asked, or should not be, as far as the spec tells."""
    judge = spec.evaluation.judge
    if judge is None:
        return
    if not judge.may_judge_itself:
        judged = {_who(teacher): f"the teacher {teacher.title}" for teacher in spec.all_teachers[:1]}
        if _who(judge.model) in judged:
            yield f"`evaluation.judge`: {judge.model.title} is {judged[_who(judge.model)]} itself, and {ITSELF}"
    yield from (f"`evaluation.judge`: {problem}" for problem in _model_problems(spec, judge.model))
    if judge.human is not None:
        try:
            read_preferences(judge.human)
        except DataError as error:
            yield str(error)


def _who(model: TeacherSpec) -> tuple[str | None, str]:
    """Whom a section means, wherever it is reached by the same name."""
    if model.replay is not None:
        return str(model.replay), model.model
    if is_local(model):
        return model.revision, model.model
    found = endpoint_of(model)
    return found.base_url, found.model

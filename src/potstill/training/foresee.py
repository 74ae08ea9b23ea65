"""What would stop training in any case, known before the teacher is asked for money. No torch here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from potstill.errors import ModelError
from potstill.models.load import weights_of
from potstill.models.locate import is_local
from potstill.models.look_up import LocalModel, device_problem, look_up
from potstill.spec.sections import RunSpec, WeightsSpec
from potstill.training.foresee_targets import target_problems
from potstill.training.vocabulary import check_trimmable

NO_ORIGIN = "is carved out of a local model, but the teacher is an endpoint: name one in `student.model`"


@dataclass(frozen=True)
class Foreseen:
    """The local models of a run, None where there are none: the teacher, and the `origin` of the student; and what is wrong with them."""

    teacher: LocalModel | None
    origin: LocalModel | None
    problems: tuple[str, ...]


def foresee(spec: RunSpec, *, fetch: bool = False) -> Foreseen:
    """Look up the models that a run loads, and whether they fit each other and the spec; with `fetch` they are brought here first."""
    teacher = look_up(weights_of(spec.teacher), fetch=fetch) if is_local(spec.teacher) else None
    weights, origin = student_origin(spec), teacher
    if weights is not None and weights != weights_of(spec.teacher):
        origin = look_up(weights, fetch=fetch)
    return Foreseen(teacher, origin, tuple(dict.fromkeys(_problems(spec, teacher, origin))))


def student_origin(spec: RunSpec) -> WeightsSpec | None:
    """The weights that the student is, or is carved out of; None where it is to be carved out of an endpoint."""
    if spec.student.model is not None:
        return WeightsSpec.model_validate(spec.student.model_dump(include=set(WeightsSpec.model_fields)))
    if not is_local(spec.teacher):
        return None
    teacher = weights_of(spec.teacher)
    return teacher.model_copy(update={"chat_template": spec.student.chat_template or teacher.chat_template})


def _problems(spec: RunSpec, teacher: LocalModel | None, origin: LocalModel | None) -> Iterator[str]:
    if teacher is not None:
        yield from (f"teacher: {problem}" for problem in teacher.problems)
    if origin is None:
        yield f"student: {NO_ORIGIN}"
    else:
        known = teacher.problems if teacher is not None else ()
        yield from (f"student: {problem}" for problem in origin.problems if problem not in known)
        yield from _student_problems(spec, origin)
    yield from target_problems(spec, teacher, origin)


def _student_problems(spec: RunSpec, origin: LocalModel) -> Iterator[str]:
    carve = spec.student.carve
    if spec.student.model is None and (problem := device_problem(spec.student.device)) is not None:
        yield f"student: {problem}"
    if carve is None:
        return
    if origin.layers is not None and carve.layers > origin.layers:
        yield f"`student.carve.layers` is {carve.layers}, but {origin.name} has {origin.layers} layers; ask for 1 to {origin.layers}"
    if carve.vocabulary == "data" and origin.tokenizer is not None:
        try:
            check_trimmable(json.loads(origin.tokenizer.to_str()))
        except ModelError as error:
            yield f"student: {origin.name}: {error}"

"""What would stop training in any case, known before the teacher is asked for money. No torch here, as a rule."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.errors import CapabilityError, ModelError
from potstill.models.load import weights_of
from potstill.models.locate import is_local
from potstill.models.look_up import LocalModel, device_problem, look_up, missing_packages
from potstill.spec.sections import RunSpec, WeightsSpec
from potstill.training.adapters import lacking_layers, linear_layers
from potstill.training.foresee_targets import target_problems
from potstill.training.vocabulary import check_trimmable

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NO_ORIGIN = "is carved out of a local model, but the teacher is an endpoint: name one in `student.model`"

_SLIGHTLY = 1.05
"""Two files of one model may count their weights a little differently."""


@dataclass(frozen=True)
class Foreseen:
    """The local models of a run, None where there are none: the teacher, and the `origin` of the student; and what is wrong with them."""

    teacher: LocalModel | None
    origin: LocalModel | None
    problems: tuple[str, ...]


def adapt_problem(spec: RunSpec) -> str | None:
    """Why the teacher cannot be adapted, where it is to be."""
    if spec.teacher.adapt is None or is_local(spec.teacher):
        return None
    what = "answers from a recording" if spec.teacher.replay is not None else "is an endpoint"
    return f"`teacher.adapt` trains a teacher's weights, but {spec.teacher.title} {what}: take a local teacher, or remove `adapt`"


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
    yield from filter(None, [adapt_problem(spec)])
    if origin is None:
        yield f"student: {NO_ORIGIN}"
    else:
        known = teacher.problems if teacher is not None else ()
        yield from (f"student: {problem}" for problem in origin.problems if problem not in known)
        yield from _student_problems(spec, origin)
        yield from _size_problems(spec, teacher, origin)
    found = list(target_problems(spec, teacher, origin))
    yield from found
    if spec.training.objective == "features" and not found and teacher is not None and origin is not None:
        yield from filter(None, [_features_problem(spec, teacher, origin)])


def _student_problems(spec: RunSpec, origin: LocalModel) -> Iterator[str]:
    carve = spec.student.carve
    yield from filter(None, [_adapter_problem(spec, origin)])
    if spec.student.model is None and (problem := device_problem(spec.student.device)) is not None:
        yield f"student: {problem}"
    if carve is None:
        return
    if origin.layers is not None and carve.layers > origin.layers:
        yield f"`student.carve.layers` is {carve.layers}, but {origin.name} has {origin.layers} layers; ask for 1 to {origin.layers}"
    if carve.vocabulary == "data" and origin.tokenizer is not None:
        try:
            check_trimmable(_layout(origin.tokenizer))
        except ModelError as error:
            yield f"student: {origin.name}: {error}"


def _adapter_problem(spec: RunSpec, origin: LocalModel) -> str | None:
    """Layers that adapters are asked for, and the student does not have; None too where that cannot be known here."""
    lora = spec.training.lora
    if lora is None or lora.modules == "all" or origin.place is None or origin.problems or missing_packages() is not None:
        return None
    return lacking_layers(lora, _layers_of(origin.place, bool(spec.student.trust_remote_code)), origin.name)


def _features_problem(spec: RunSpec, teacher: LocalModel, origin: LocalModel) -> str | None:
    """What keeps two models from being matched inside, found on one layer of each; None too where that cannot be known here.

    This takes torch, and a moment: few specs match features, and a teacher's answers for nothing would take longer.
    """
    if missing_packages() is not None or teacher.problems or origin.problems:
        return None
    if teacher.place is None or origin.place is None or teacher.layers is None or origin.layers is None:
        return None
    from potstill.training.carve import evenly_spaced
    from potstill.training.features import look_inside, matched_layers

    carve, is_the_teacher = spec.student.carve, origin.place == teacher.place
    kept = tuple(range(origin.layers)) if carve is None else evenly_spaced(origin.layers, carve.layers)
    layer, other = matched_layers(spec.training.features, len(kept), teacher.layers, kept if is_the_teacher else None)[0]
    theirs = _one_layer(teacher.place, bool(spec.teacher.trust_remote_code), other)
    own = _one_layer(origin.place, bool((spec.teacher if is_the_teacher else spec.student).trust_remote_code), kept[layer])
    try:
        look_inside(own, theirs, spec.training.features, [(0, 0)])
    except CapabilityError as error:
        return str(error)
    return None


def _one_layer(place: Path, trusted: bool, layer: int) -> Any:
    """A model like the one at `place`, of that layer and a few tokens alone, with weights that say nothing."""
    import numpy as np
    import torch

    from potstill.models.reading import read_empty
    from potstill.training.carve import carved_config

    empty = read_empty(place, trusted)
    with torch.random.fork_rng():
        return type(empty)._from_config(carved_config(empty.config, [layer], np.arange(8)), dtype=torch.float32)


@lru_cache(maxsize=4)
def _layers_of(place: Path, trusted: bool) -> tuple[str, ...]:
    """The linear layers of a model. This takes torch, and a moment: a spec that names layers is rare, and their names no file tells."""
    from potstill.models.reading import read_empty

    return tuple(linear_layers(read_empty(place, trusted)))


def _size_problems(spec: RunSpec, teacher: LocalModel | None, origin: LocalModel) -> Iterator[str]:
    if spec.student.carve is not None or teacher is None or teacher.parameters is None or origin.parameters is None:
        return
    if origin.parameters > _SLIGHTLY * teacher.parameters:
        yield (
            f"student: {origin.name} ({origin.parameters / 1e6:,.1f} M weights) is larger than its teacher {teacher.name} "
            f"({teacher.parameters / 1e6:,.1f} M): nothing would be saved; choose a smaller student, or `student.carve`"
        )


def _layout(tokenizer: Tokenizer) -> dict[str, Any]:
    """A `tokenizer.json` less its tables of tokens, which take longer to write and read than all else that is looked at."""
    model = tokenizer.model
    names = ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    return {
        "model": {"type": type(model).__name__} | {name: getattr(model, name, None) for name in names},
        **{part: json.loads(found.__getstate__()) for part in ("pre_tokenizer", "decoder") if (found := getattr(tokenizer, part))},
    }

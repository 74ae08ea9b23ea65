"""What would stop a student from learning the targets that its spec asks for, known before the teacher is asked. No torch here."""

from __future__ import annotations

from collections.abc import Iterator

from potstill.models.locate import is_local
from potstill.models.look_up import LocalModel, same_tokens
from potstill.spec.sections import RunSpec, TargetsSpec
from potstill.spec.sections.training import BESIDE_ANSWERS
from potstill.tasks import build_task
from potstill.training.layer_map import layers_out_of_range
from potstill.training.settings import NEEDS_LIVE_TEACHER

_COUNTABLE = {"accuracy", "math_accuracy", "exact_match"}


def target_problems(spec: RunSpec, teacher: LocalModel | None, origin: LocalModel | None) -> Iterator[str]:
    """All that speaks against `targets` and `training.objective` together."""
    targets, wanted = spec.targets, spec.training.objective
    if targets.kind in ("top_k", "sampled") and len(spec.all_teachers) > 1:
        yield f"`targets.kind: {targets.kind}` keeps what one teacher says, but {len(spec.all_teachers)} are named: take `live`, or `auto`"
    elif targets.kind in BESIDE_ANSWERS:
        yield from _beside_answers(spec)
    elif key := _demand(spec):
        yield from _live(spec, key, teacher, origin)
    elif targets.align and wanted == "auto" and teacher is not None:
        yield from _aligned(spec, teacher, origin)
    asked_for = targets.k != TargetsSpec.model_fields["k"].default
    if asked_for and origin is not None and origin.tokenizer is not None and targets.k > (tokens := origin.tokenizer.get_vocab_size()):
        yield f"`targets.k` is {targets.k:,}, but {origin.name} has {tokens:,} tokens; ask for fewer, 32 by default"


def _demand(spec: RunSpec) -> str | None:
    """The key that demands the probabilities of a teacher in memory; None where text would do."""
    objective, kind = spec.training.objective, spec.targets.kind
    if objective in NEEDS_LIVE_TEACHER:
        return f"training.objective: {objective}"
    if spec.targets.positions == "all":
        return "targets.positions: all"
    if objective == "logits":
        return "training.objective: logits"
    return f"targets.kind: {kind}" if kind != "auto" and objective != "sft" else None


def _live(spec: RunSpec, key: str, teacher: LocalModel | None, origin: LocalModel | None) -> Iterator[str]:
    objective = spec.training.objective
    what = "hidden states" if objective == "features" else "probabilities"
    if teacher is None or not all(map(is_local, spec.all_teachers)):
        said = "`targets.kind: logprobs` where it gives log-probabilities, " if objective not in NEEDS_LIVE_TEACHER else ""
        yield f"`{key}` needs the teacher's {what}, but the teacher is an endpoint: take a local one, {said}or `training.objective: sft`"
    elif objective in NEEDS_LIVE_TEACHER and (len(spec.all_teachers) > 1 or spec.targets.align):
        yield f"`{key}` takes one teacher that reads the student's tokens: give `teacher` alone, without `targets.align`"
    elif spec.targets.align:
        yield from _aligned(spec, teacher, origin)
    elif origin is not None and same_tokens(origin, teacher) is False:
        advice = "take" if objective in NEEDS_LIVE_TEACHER else "set `targets.align: true`, or take"
        yield (
            f"`{key}` needs teacher and student to share a tokenizer, but {teacher.name} and {origin.name} have different ones: {advice} "
            "`training.objective: sft`"
        )
    elif objective == "features" and spec.training.features.layers != "auto":
        layers = spec.student.carve.layers if spec.student.carve is not None else origin.layers if origin is not None else None
        problem = layers_out_of_range(spec.training.features.layers, layers, teacher.layers)
        if problem is not None:
            yield problem


def _aligned(spec: RunSpec, teacher: LocalModel, origin: LocalModel | None) -> Iterator[str]:
    if origin is None or same_tokens(origin, teacher) is not False:
        return
    if spec.targets.positions == "all":
        yield "`targets.align` carries over what the teacher says of answers alone: set `targets.positions: answer`"
    if len(spec.all_teachers) > 1:
        yield f"`targets.align` takes one teacher, but {len(spec.all_teachers)} are named, and {teacher.name} has another tokenizer"


def _beside_answers(spec: RunSpec) -> Iterator[str]:
    targets, key = spec.targets, f"`targets.kind: {spec.targets.kind}`"
    if spec.training.objective == "sft":
        yield f"{key} gives probabilities, but `training.objective: sft` learns from text alone: take `objective: auto`, or `kind: auto`"
    if targets.positions == "all":
        yield f"{key} says nothing of the prompt's tokens: set `targets.positions: answer`"
    if targets.temperature != 1.0 or targets.teacher_temperature not in (None, 1.0):
        yield f"{key} gives probabilities of some tokens alone, which no other temperature can be put on: leave the temperatures at 1"
    if targets.kind == "logprobs":
        yield from _logprobs(spec)
    else:
        yield from _votes(spec)


def _logprobs(spec: RunSpec) -> Iterator[str]:
    local = [teacher.title for teacher in spec.all_teachers if is_local(teacher)]
    if local and spec.generation.scorer is None:
        yield f"`targets.kind: logprobs` is what an endpoint says, but {local[0]} is local, and gives more: set `targets.kind: live`"


def _votes(spec: RunSpec) -> Iterator[str]:
    generation = spec.generation
    if generation.choose == "label_scores":
        return
    if generation.samples == 1 and generation.route != "vote":
        yield (
            "`targets.kind: votes` needs several answers to each question: set `generation.samples`, or `route: vote` of several teachers; "
            "or have a judge score labels: `choose: label_scores`"
        )
    countable = build_task(spec.task, spec.task.labels or ("a", "b")).agreement in _COUNTABLE
    if generation.choose != "vote" and not (generation.choose == "auto" and countable):
        yield (
            f"`targets.kind: votes` needs answers that are counted, but `generation.choose` is {generation.choose}"
            f"{'' if countable else f' and answers of {spec.task.type} are not alike'}: set `generation.choose: vote`"
        )

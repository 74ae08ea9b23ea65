"""What a run's student is pulled to: the objective with its teacher, or with what was said and voted beside the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from potstill.models.load import weights_of
from potstill.records import Example
from potstill.spec.sections import FeaturesSpec
from potstill.spec.sections.training import BESIDE_ANSWERS
from potstill.store.run import Run
from potstill.training.kinship import shares_tokens
from potstill.training.objectives import OBJECTIVES, Ingredients, Objective, ObjectiveName, divergence_name
from potstill.training.objectives.base import Teaching, always
from potstill.training.recipe import chats, origin_of, student_weights, tokenizer_of
from potstill.training.settings import LIVE, targets_kind

if TYPE_CHECKING:
    from potstill.models.weights import Weights
    from potstill.training.batches import TokenRows
    from potstill.training.sources import Source
    from potstill.training.student import Student
    from potstill.training.targets import Targets


def build_teaching(run: Run, name: ObjectiveName, student: Student, teacher: Weights | None, examples: Sequence[Example]) -> Teaching:
    """The objective of that name, with what it learns from: a teacher beside the student, what one said of the rows, or what stands
    beside the answers of `examples`."""
    from potstill.training.losses import build_divergence

    spec = run.spec
    divergence = build_divergence(divergence_name(spec, name), weight=spec.training.divergence_weight, skew=spec.training.skew)
    weights = spec.targets.weights
    if spec.training.features != FeaturesSpec() and spec.training.objective != "features":
        run.events.warn(f"`training.features` acts with `training.objective: features` alone, and the objective is {name}")

    def ingredients(targets: Targets | None) -> Ingredients:
        return Ingredients(targets, divergence, spec.targets.temperature, weights.teacher, weights.text)

    if name == "sft":
        return always(OBJECTIVES[name](ingredients(None)))
    source = _source(run, student, teacher, examples)

    def teaching(rows: TokenRows, module: Any) -> Objective:
        found = ingredients(source(rows))
        return OBJECTIVES[name](_with_features(run, found, student, module) if name == "features" else found)

    return teaching


def _source(run: Run, student: Student, teacher: Weights | None, examples: Sequence[Example]) -> Source:
    from potstill.training import sources

    spec, kind = run.spec, targets_kind(run.spec)
    if kind != LIVE and kind not in BESIDE_ANSWERS:
        return sources.cached(run, student)
    tokenizer = tokenizer_of(student_weights(spec, student.folder))
    if kind in BESIDE_ANSWERS:
        beside = sources.said if kind == "logprobs" else sources.votes
        return beside(run, tokenizer, examples)
    assert teacher is not None, "a live teacher is loaded before"
    origin = tokenizer_of(origin_of(run))
    if len(spec.all_teachers) > 1:
        from potstill.models.weights import load_weights

        others = [load_weights(weights_of(other)) for other in spec.all_teachers[1:]]
        return sources.several(run, student, origin, [teacher, *others], examples)
    if not shares_tokens(origin, teacher.tokenizer, chats(run)):
        return sources.aligned(run, tokenizer, teacher, examples)
    return sources.live(run, student, origin, teacher)


def _with_features(run: Run, ingredients: Ingredients, student: Student, module: Any) -> Ingredients:
    """Features are matched between a teacher and the very module that learns."""
    from potstill.training.features import FeatureMatching, layer_count, matched_layers
    from potstill.training.targets import LiveTeacher

    spec, teacher = run.spec.training.features, ingredients.teacher
    assert isinstance(teacher, LiveTeacher), "features are those of one teacher in memory"
    is_cut_from_teacher = run.spec.student.model is None or origin_of(run) == weights_of(run.spec.teacher)
    pairs = matched_layers(spec, layer_count(module), layer_count(teacher.module), student.layers if is_cut_from_teacher else None)
    matching = FeatureMatching(module, teacher, spec, pairs, seed=run.spec.seed)
    return replace(ingredients, teacher=teacher if spec.added_to == "logits" else None, features=matching)

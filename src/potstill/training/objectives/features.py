"""What goes on inside the teacher, beside its text or its probabilities."""

from __future__ import annotations

from dataclasses import replace

from potstill.training.objectives.base import Ingredients, Objective
from potstill.training.objectives.logits import logits
from potstill.training.objectives.sft import sft


def features(ingredients: Ingredients) -> Objective:
    """The `logits` objective where there are the teacher's distributions, else `sft`; and feature matching added to it."""
    assert ingredients.features is not None, "the features objective needs features"
    base = sft(ingredients) if ingredients.teacher is None else logits(ingredients)
    return replace(base, name="features", features=ingredients.features)

"""Word-level distillation on the teacher's probabilities."""

from __future__ import annotations

from potstill.training.losses import cross_entropy
from potstill.training.objectives.base import Aim, Ingredients, Objective
from potstill.training.targets import Text


def logits(ingredients: Ingredients) -> Objective:
    """A divergence to the teacher at each trained position (Hinton et al. 2015, arXiv 1503.02531), and cross-entropy on the text beside it
    where that has a weight."""
    assert ingredients.teacher is not None, "the logits objective needs a teacher"
    aims = [Aim(ingredients.teacher, ingredients.divergence, ingredients.teacher_weight, ingredients.temperature)]
    if ingredients.text_weight:
        aims.append(Aim(Text(), cross_entropy, ingredients.text_weight))
    return Objective("logits", tuple(aims))

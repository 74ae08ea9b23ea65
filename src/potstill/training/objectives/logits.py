"""Word-level distillation on the teacher's probabilities."""

from __future__ import annotations

from functools import partial

from potstill.training.losses import forward_kl
from potstill.training.objectives.base import Ingredients, Objective


def logits(ingredients: Ingredients) -> Objective:
    """Forward KL to the teacher at each trained position (Hinton et al. 2015, arXiv 1503.02531)."""
    assert ingredients.teacher is not None, "the logits objective needs a teacher"
    return Objective("logits", ingredients.teacher, partial(forward_kl, temperature=ingredients.temperature))

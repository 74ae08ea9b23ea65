"""Distillation on what the student writes itself, beside the given text."""

from __future__ import annotations

from potstill.training.losses import cross_entropy
from potstill.training.objectives.base import Aim, Ingredients, Objective
from potstill.training.targets import GivenText


def on_policy(ingredients: Ingredients) -> Objective:
    """A divergence D to the teacher at each trained position, of rows of which the student wrote a share λ (`training.on_policy.share`):

    (1 − λ) E_(x,y)~given [D(p_T ‖ p_S)(y | x)] + λ E_x~given [E_y~p_S(·|x) [D(p_T ‖ p_S)(y | x)]]

    (GKD: Agarwal et al. 2024, arXiv 2306.13649, algorithm 1), D being summed over the trained tokens of y: of a row that the student wrote,
    all that it wrote, its stop token included, and nothing else. (The paper takes each text's mean first; here, as in all objectives,
    tokens count alike, however long the text is.) No gradient flows through the sampling of y. Which rows come is not the objective's
    matter (`training.on_policy.RolloutSource`): with λ = 0 it is `logits`. Cross-entropy on the text stands beside it, where that has
    a weight, at the given rows alone.
    """
    assert ingredients.teacher is not None, "the on_policy objective needs a teacher"
    aims = [Aim(ingredients.teacher, ingredients.divergence, ingredients.teacher_weight, ingredients.temperature)]
    if ingredients.text_weight:
        aims.append(Aim(GivenText(), cross_entropy, ingredients.text_weight))
    return Objective("on_policy", tuple(aims))

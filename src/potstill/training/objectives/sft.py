"""Supervised fine-tuning on the teacher's text."""

from __future__ import annotations

from potstill.training.losses import cross_entropy
from potstill.training.objectives.base import Aim, Ingredients, Objective
from potstill.training.targets import Text


def sft(_: Ingredients) -> Objective:
    """Cross-entropy on the teacher's tokens (sequence-level distillation, Kim & Rush 2016, arXiv 1606.07947)."""
    return Objective("sft", (Aim(Text(), cross_entropy),))

"""Losses: pure functions of two distributions, or of what goes on inside two models. They import torch alone."""

from __future__ import annotations

from functools import partial
from typing import Literal

from potstill.training.losses.attention import attention_kl, attention_mse
from potstill.training.losses.base import FLOOR, Divergence, Terms, divergence_of_logits, log_probabilities, logit_gradient
from potstill.training.losses.cross_entropy import cross_entropy
from potstill.training.losses.forward_kl import forward_kl
from potstill.training.losses.hidden import hidden_cosine, hidden_mse
from potstill.training.losses.jensen_shannon import jensen_shannon
from potstill.training.losses.relations import relation_kl
from potstill.training.losses.reverse_kl import reverse_kl
from potstill.training.losses.skewed import skewed_forward_kl, skewed_reverse_kl
from potstill.training.losses.total_variation import total_variation

__all__ = [
    "DIVERGENCES",
    "FLOOR",
    "Divergence",
    "DivergenceName",
    "Terms",
    "attention_kl",
    "attention_mse",
    "build_divergence",
    "cross_entropy",
    "divergence_of_logits",
    "forward_kl",
    "hidden_cosine",
    "hidden_mse",
    "jensen_shannon",
    "log_probabilities",
    "logit_gradient",
    "relation_kl",
    "reverse_kl",
    "skewed_forward_kl",
    "skewed_reverse_kl",
    "total_variation",
]

DivergenceName = Literal["forward_kl", "reverse_kl", "jensen_shannon", "skewed_forward_kl", "skewed_reverse_kl", "total_variation"]

DIVERGENCES: dict[DivergenceName, Divergence] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "jensen_shannon": jensen_shannon,
    "skewed_forward_kl": skewed_forward_kl,
    "skewed_reverse_kl": skewed_reverse_kl,
    "total_variation": total_variation,
}


def build_divergence(name: DivergenceName, *, weight: float, skew: float) -> Divergence:
    """The divergence of that name, with the one of the two that it has."""
    if name == "jensen_shannon":
        return partial(jensen_shannon, weight=weight)
    if name in ("skewed_forward_kl", "skewed_reverse_kl"):
        return partial(DIVERGENCES[name], skew=skew)  # type: ignore[call-arg]
    return DIVERGENCES[name]

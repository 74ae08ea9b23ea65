"""Losses: pure functions of logits, summed over positions. They import torch alone."""

from potstill.training.losses.cross_entropy import cross_entropy
from potstill.training.losses.forward_kl import forward_kl

__all__ = ["cross_entropy", "forward_kl"]

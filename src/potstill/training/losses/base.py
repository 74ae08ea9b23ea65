"""What every divergence answers, and how one is taken of whole logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

FLOOR = -1e4
"""Stands for the logarithm of 0: e to it is exactly 0 in every float, and 0 times it is 0, as 0 log 0 should be."""


class Terms(NamedTuple):
    """`value_N`: the divergence at each of N positions, in nats. `slope_NE`: its derivative by log q of each of E events, each taken as
    free; the softmax is the caller's matter (`logit_gradient`)."""

    value_N: Tensor
    slope_NE: Tensor


Divergence = Callable[[Tensor, Tensor], Terms]
"""Of log q (the student's) and log p (the teacher's), both (N, E) over the same events: all tokens, or some and the rest."""


def logit_gradient(slope_NE: Tensor, q_NE: Tensor) -> Tensor:
    """The derivative by the scores that q is the softmax of: slope − q Σ slope."""
    return torch.addcmul(slope_NE, q_NE, slope_NE.sum(dim=-1, keepdim=True), value=-1.0)


def log_probabilities(logits_NV: Tensor, temperature: float = 1.0) -> Tensor:
    """log softmax(logits / temperature), in float32 at least; a token that is ruled out (−inf) gets FLOOR."""
    precise_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    return torch.log_softmax(precise_NV if temperature == 1.0 else precise_NV / temperature, dim=-1).clamp_min(FLOOR)


def divergence_of_logits(
    divergence: Divergence,
    student_logits_NV: Tensor,
    teacher_logits_NV: Tensor,
    *,
    temperature: float = 1.0,
    teacher_temperature: float | None = None,
) -> Tensor:
    """Sum over N positions of a divergence between softmax(teacher / T) and softmax(student / T), in nats: a scalar.

    Dense and differentiable, for small arrays and as the oracle of the kernel, which never holds (N, V). The teacher is taken at
    `temperature` as well unless `teacher_temperature` says otherwise. The result is not multiplied by temperature² (Hinton et al. 2015,
    arXiv 1503.02531, §2.1): scale the learning rate instead. Computed in float32 at least.
    """
    logq_NV = log_probabilities(student_logits_NV, temperature)
    logp_NV = log_probabilities(teacher_logits_NV, temperature if teacher_temperature is None else teacher_temperature)
    return divergence(logq_NV, logp_NV).value_N.sum()


def precise(found: Tensor) -> Tensor:
    """The same numbers in float32 at least."""
    return found.to(torch.promote_types(found.dtype, torch.float32))


def weighted_sum(values_N: Tensor, weights_N: Tensor | None) -> Tensor:
    """Σ w v; without weights Σ v."""
    return values_N.sum() if weights_N is None else (values_N * weights_N).sum()

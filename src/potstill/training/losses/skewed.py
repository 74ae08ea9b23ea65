"""Skewed Kullback–Leibler divergences: one side is mixed with a little of the other, so that no ratio runs away (DistiLLM)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from potstill.training.losses.base import Terms
from potstill.training.losses.forward_kl import forward_kl
from potstill.training.losses.reverse_kl import reverse_kl


def skewed_forward_kl(logq_NE: Tensor, logp_NE: Tensor, *, skew: float = 0.1) -> Terms:
    """KL(p ‖ m) with m = a p + (1 − a) q and 0 ≤ a < 1; a = 0 is forward KL (Ko et al. 2024, arXiv 2402.03898, eq. 4).

    Slope: −p (1 − a) q / m.
    """
    if skew == 0.0:
        return forward_kl(logq_NE, logp_NE)
    logm_NE = _mixture(logp_NE, logq_NE, skew)
    p_NE = logp_NE.exp()
    value_N = (p_NE * (logp_NE - logm_NE).masked_fill(logp_NE == logq_NE, 0.0)).sum(dim=-1)
    return Terms(value_N, -p_NE * (logq_NE - logm_NE + math.log1p(-skew)).exp())


def skewed_reverse_kl(logq_NE: Tensor, logp_NE: Tensor, *, skew: float = 0.1) -> Terms:
    """KL(q ‖ m) with m = a q + (1 − a) p and 0 ≤ a < 1; a = 0 is reverse KL (Ko et al. 2024, arXiv 2402.03898, eq. 5).

    Slope: q (log q − log m + 1 − a q / m).
    """
    if skew == 0.0:
        return reverse_kl(logq_NE, logp_NE)
    logm_NE = _mixture(logq_NE, logp_NE, skew)
    q_NE = logq_NE.exp()
    difference_NE = (logq_NE - logm_NE).masked_fill(logp_NE == logq_NE, 0.0)
    return Terms((q_NE * difference_NE).sum(dim=-1), q_NE * (difference_NE + 1.0 - skew * difference_NE.exp()))


def _mixture(log_a_NE: Tensor, log_b_NE: Tensor, skew: float) -> Tensor:
    """log(a A + (1 − a) B)."""
    assert 0.0 < skew < 1.0, "a skew lies between 0 and 1"
    return torch.logaddexp(log_a_NE + math.log(skew), log_b_NE + math.log1p(-skew))

"""Generalised Jensen–Shannon divergence: between forward and reverse KL, and bounded."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from potstill.training.losses.base import Terms


def jensen_shannon(logq_NE: Tensor, logp_NE: Tensor, *, weight: float = 0.5) -> Terms:
    """w KL(p ‖ m) + (1 − w) KL(q ‖ m) with m = w p + (1 − w) q and 0 < w < 1 (Agarwal et al. 2024, arXiv 2306.13649, eq. 2).

    Zero exactly when both are the same. Divided by w (1 − w) it tends to forward KL as w goes to 0 and to reverse KL as w goes to 1;
    at the ends themselves it is 0 and no loss, so they are refused. Slope: (1 − w) q (log q − log m).
    """
    assert 0.0 < weight < 1.0, "the weight of a Jensen–Shannon divergence lies between 0 and 1"
    logm_NE = torch.logaddexp(logp_NE + math.log(weight), logq_NE + math.log1p(-weight))
    # q = p gives log m = log p but for rounding, which must not become a loss.
    from_p_NE, from_q_NE = _unrounded(logp_NE, logm_NE, logq_NE), _unrounded(logq_NE, logm_NE, logp_NE)
    p_NE, q_NE = logp_NE.exp(), logq_NE.exp()
    slope_NE = (1.0 - weight) * q_NE * from_q_NE
    return Terms(weight * (p_NE * from_p_NE).sum(dim=-1) + slope_NE.sum(dim=-1), slope_NE)


def _unrounded(log_NE: Tensor, logm_NE: Tensor, other_NE: Tensor) -> Tensor:
    return (log_NE - logm_NE).masked_fill(log_NE == other_NE, 0.0)

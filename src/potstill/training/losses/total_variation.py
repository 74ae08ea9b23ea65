"""Total variation: how much probability lies elsewhere."""

from __future__ import annotations

from torch import Tensor

from potstill.training.losses.base import Terms


def total_variation(logq_NE: Tensor, logp_NE: Tensor) -> Terms:
    """½ Σ |p − q|, between 0 and 1 (Wen et al. 2023, arXiv 2307.15190, eq. 6). Slope: ½ sign(q − p) q, and 0 where both are the same."""
    q_NE = logq_NE.exp()
    difference_NE = q_NE - logp_NE.exp()
    return Terms(0.5 * difference_NE.abs().sum(dim=-1), 0.5 * difference_NE.sign() * q_NE)

"""Forward Kullback–Leibler divergence: the student is pulled to all that its teacher finds likely."""

from __future__ import annotations

from torch import Tensor

from potstill.training.losses.base import Terms


def forward_kl(logq_NE: Tensor, logp_NE: Tensor) -> Terms:
    """KL(p ‖ q) = Σ p (log p − log q): zero exactly when both are the same (Hinton et al. 2015, arXiv 1503.02531). Slope: −p."""
    p_NE = logp_NE.exp()
    return Terms((p_NE * (logp_NE - logq_NE)).sum(dim=-1), -p_NE)

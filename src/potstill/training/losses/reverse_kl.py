"""Reverse Kullback–Leibler divergence: the student is kept from all that its teacher finds unlikely."""

from __future__ import annotations

from torch import Tensor

from potstill.training.losses.base import Terms


def reverse_kl(logq_NE: Tensor, logp_NE: Tensor) -> Terms:
    """KL(q ‖ p) = Σ q (log q − log p): zero exactly when both are the same (Gu et al. 2024, arXiv 2306.08543, eq. 2).

    Where the teacher rules out what the student says it is infinite; here, as large as `FLOOR` makes it. Slope: q (log q − log p + 1).
    """
    q_NE = logq_NE.exp()
    difference_NE = logq_NE - logp_NE
    return Terms((q_NE * difference_NE).sum(dim=-1), q_NE * (difference_NE + 1.0))

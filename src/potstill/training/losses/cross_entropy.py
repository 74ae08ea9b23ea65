"""Cross-entropy: what plain fine-tuning on text minimises."""

from __future__ import annotations

from torch import Tensor

from potstill.training.losses.base import Terms


def cross_entropy(logq_NE: Tensor, logp_NE: Tensor) -> Terms:
    """−Σ p log q: forward KL and the entropy of p, which no student changes.

    At one token that stands in the text (p is 1 there) this is its negative log-likelihood, and on a teacher's text it is sequence-level
    distillation (Kim & Rush 2016, arXiv 1606.07947, eq. 7). Slope: −p.
    """
    p_NE = logp_NE.exp()
    return Terms(-(p_NE * logq_NE).sum(dim=-1), -p_NE)

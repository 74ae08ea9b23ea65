"""Forward Kullback–Leibler divergence: the student is pulled to all that its teacher finds likely."""

from __future__ import annotations

import torch
from torch import Tensor


def forward_kl(student_logits_NV: Tensor, teacher_logits_NV: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Sum over N positions of KL(teacher ‖ student) = Σ_v p_v (log p_v − log q_v), in nats: a scalar.

    p = softmax(teacher / temperature) and q = softmax(student / temperature): both sides are taken at `temperature`, and the
    result is not multiplied by temperature² (Hinton et al. 2015, arXiv 1503.02531, §2.1): scale the learning rate
    instead. Zero exactly when both sides hold the same logits. Reduction: a sum, so that a step can be normalised by all
    its tokens. Computed in float32 at least.
    """
    student_logq_NV = _log_softmax(student_logits_NV, temperature)
    teacher_logp_NV = _log_softmax(teacher_logits_NV, temperature)
    # A token that the teacher rules out (−inf) adds nothing: 0 · log 0 = 0.
    difference_NV = (teacher_logp_NV - student_logq_NV).masked_fill(teacher_logp_NV == -torch.inf, 0.0)
    return (teacher_logp_NV.exp() * difference_NV).sum()


def _log_softmax(logits_NV: Tensor, temperature: float) -> Tensor:
    precise_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    return torch.log_softmax(precise_NV / temperature, dim=-1)

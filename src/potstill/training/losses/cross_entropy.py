"""Cross-entropy against given tokens: what plain fine-tuning on text minimises."""

from __future__ import annotations

import torch
from torch import Tensor


def cross_entropy(student_logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Sum over N positions of −log softmax(student)[target], in nats: a scalar.

    `student_logits_NV` are floating, `targets_N` token ids in [0, V). There is no temperature: the student is taken as it
    is. Reduction: a sum, so that a step can be normalised by all its tokens, over however many batches they are spread.
    Computed in float32 at least. This is the one-hot case of `forward_kl`; on a teacher's text it is sequence-level
    distillation (Kim & Rush 2016, arXiv 1606.07947, eq. 7).
    """
    logits_NV = student_logits_NV.to(torch.promote_types(student_logits_NV.dtype, torch.float32))
    return torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="sum")

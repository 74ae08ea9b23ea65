"""A loss over many positions whose logits never live all at once: chunk by chunk, with the gradient formed on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from potstill.training.head import Head

LOGIT_BYTES = 64 * 2**20
"""Bound of one chunk's float32 logits: large enough for fast matrix products, small beside any model."""

ChunkTarget = Callable[[slice], Tensor]
"""What some of the N positions should look like: token ids (n), or logits (n, V)."""
ChunkLoss = Callable[[Tensor, Tensor], Tensor]
"""A sum over positions, of student logits (n, V) and their targets."""


def chunked_loss(hidden_ND: Tensor, head: Head, target: ChunkTarget, loss: ChunkLoss, chunk: int | None = None) -> Tensor:
    """`loss` of all N positions, a scalar; `chunk` positions at a time, by default as many as keep within LOGIT_BYTES.

    Forward forms the gradients with respect to `hidden_ND` and the head too, so that no logits are kept for, or computed
    again in, the backward pass (three head products instead of four; Liger-Kernel's fused losses work in this way).
    """
    size = chunk or max(1, LOGIT_BYTES // (4 * head.weight_VD.shape[0]))

    def loss_of(part_nD: Tensor, part: slice) -> Tensor:
        return loss(head.logits(part_nD), target(part))

    if torch.is_grad_enabled():
        result: Tensor = _GradientInForward.apply(loss_of, size, hidden_ND, *head.parameters)  # type: ignore[no-untyped-call]
        return result
    parts = (slice(at, at + size) for at in range(0, len(hidden_ND), size))
    return torch.stack([loss_of(hidden_ND[part], part) for part in parts]).sum()


class _GradientInForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss_of: Callable[[Tensor, slice], Tensor], size: int, hidden_ND: Tensor, *parameters: Tensor) -> Tensor:
        wanted = [parameter for parameter in parameters if parameter.requires_grad]
        sums: list[Tensor] = []
        hidden_gradient_ND = torch.empty_like(hidden_ND)
        total = torch.zeros((), device=hidden_ND.device, dtype=torch.promote_types(hidden_ND.dtype, torch.float32))
        for at in range(0, len(hidden_ND), size):
            part = slice(at, at + size)
            part_nD = hidden_ND[part].detach().requires_grad_()
            with torch.enable_grad():
                loss = loss_of(part_nD, part)
            part_gradient_nD, *gradients = torch.autograd.grad(loss, (part_nD, *wanted))
            hidden_gradient_ND[part] = part_gradient_nD
            # The first chunk's gradients become the sums: most batches fit one chunk, and need no further (V, D) array.
            sums = [whole.add_(gradient) for whole, gradient in zip(sums, gradients, strict=True)] if sums else gradients
            total += loss.detach()
        ctx.hidden_gradient_ND, ctx.sums = hidden_gradient_ND, sums
        ctx.trained = [parameter.requires_grad for parameter in parameters]
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        sums = iter(ctx.sums)
        gradients = [next(sums).mul_(upstream) if trained else None for trained in ctx.trained]
        return None, None, ctx.hidden_gradient_ND.mul_(upstream), *gradients

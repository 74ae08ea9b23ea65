"""The loss of many positions whose logits never live all at once: chunk by chunk, with the gradient formed on the way.

Each chunk takes three products with the student's head (logits, and the gradients of hidden states and weights; two where the head is
frozen) and one with the teacher's where its logits are wanted; nothing is computed again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from potstill.training.distributions import Distribution
from potstill.training.head import Head, product_dtype
from potstill.training.losses import Divergence

LOGIT_BYTES = 64 * 2**20
"""Bound of one chunk's float32 logits: large enough for fast matrix products, small beside any model."""
BLOCK_BYTES = 2**20
"""Bound of the logits that are worked on at once on a CPU: they stay in its cache from one elementwise step to the next."""

ChunkTarget = Callable[[slice], Distribution]
"""What some of the N positions should look like."""


@dataclass(frozen=True)
class Pull:
    """One part of a loss: `weight` times the divergence between a target and softmax(logits / `temperature`).

    `rows_N` weighs positions apart, where that is given; those of weight 0 have no target.
    """

    target: ChunkTarget
    divergence: Divergence
    weight: float = 1.0
    temperature: float = 1.0
    rows_N: Tensor | None = None


def pulled_loss(hidden_ND: Tensor, head: Head, pulls: Sequence[Pull], *, chunk: int | None = None) -> Tensor:
    """The sum of all pulls at all N positions, in nats: a scalar, differentiable by `hidden_ND` and the head.

    `chunk` positions are worked through at a time, by default as many as keep within LOGIT_BYTES. Matrix products are in the dtype of the
    hidden states, or autocast's; all else in float32 at least. Memory beside the gradients does not grow with N.
    """
    size = chunk or max(1, LOGIT_BYTES // (4 * head.weight_VD.shape[0]))
    if torch.is_grad_enabled() and (hidden_ND.requires_grad or any(parameter.requires_grad for parameter in head.parameters)):
        result: Tensor = _GradientInForward.apply(head, pulls, size, hidden_ND, *head.parameters)  # type: ignore[no-untyped-call]
        return result
    with torch.no_grad():
        used = head.cast(product_dtype(hidden_ND))
        return _sum(value for _, value, _ in _chunks(hidden_ND, used, pulls, size))


class _GradientInForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, head: Head, pulls: Sequence[Pull], size: int, hidden_ND: Tensor, *parameters: Tensor) -> Tensor:
        used = head.cast(product_dtype(hidden_ND))
        hidden_gradient_ND = torch.empty_like(hidden_ND)
        gradients = _HeadGradients(parameters)
        values = []
        with torch.autocast(hidden_ND.device.type, enabled=False):
            for part, value, gradient_nV in _chunks(hidden_ND, used, pulls, size):
                values.append(value)
                gradient_nV = gradient_nV.to(used.weight_VD.dtype)
                hidden_gradient_ND[part] = gradient_nV @ used.weight_VD
                gradients.add(gradient_nV, hidden_ND[part].to(used.weight_VD.dtype))
        ctx.hidden_gradient_ND, ctx.gradients = hidden_gradient_ND, gradients
        return _sum(values) if values else hidden_ND.new_zeros(())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, ctx.hidden_gradient_ND.mul_(upstream.to(ctx.hidden_gradient_ND.dtype)), *ctx.gradients.times(upstream)


class _HeadGradients:
    """Sums over chunks of what the head's parameters get; nothing for those that are frozen."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = parameters
        self._sums: list[Tensor | None] = [None for _ in parameters]

    def add(self, gradient_nV: Tensor, hidden_nD: Tensor) -> None:
        for place, parameter in enumerate(self._parameters):
            if not parameter.requires_grad:
                continue
            so_far = self._sums[place]
            is_weight = parameter.dim() == 2
            if so_far is not None and is_weight and so_far.dtype == gradient_nV.dtype:
                so_far.addmm_(gradient_nV.t(), hidden_nD)
                continue
            more = gradient_nV.t() @ hidden_nD if is_weight else gradient_nV.sum(dim=0)
            more = more.to(torch.promote_types(parameter.dtype, torch.float32))
            # The first chunk's gradient becomes the sum: most batches fit one chunk, and need no further (V, D) array.
            self._sums[place] = more if so_far is None else so_far.add_(more)

    def times(self, upstream: Tensor) -> list[Tensor | None]:
        return [
            None if found is None else found.mul_(upstream.to(found.dtype)).to(parameter.dtype)
            for found, parameter in zip(self._sums, self._parameters, strict=True)
        ]


def _chunks(hidden_ND: Tensor, head: Head, pulls: Sequence[Pull], size: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Each chunk's place, its part of the loss, and its gradient (n, V) by the head's own products."""
    for start in range(0, len(hidden_ND), size):
        part = slice(start, min(start + size, len(hidden_ND)))
        logits_nV = head.logits(hidden_ND[part].to(head.weight_VD.dtype))
        logits_nV = logits_nV.to(torch.promote_types(logits_nV.dtype, torch.float32))
        targets = [pull.target(part) for pull in pulls]
        weights = [None if pull.rows_N is None else pull.rows_N[part] for pull in pulls]
        values = []
        for block in _blocks(logits_nV):
            value, gradient_bV = _pulled(
                logits_nV[block],
                pulls,
                [target.rows(block) for target in targets],
                [None if found is None else found[block] for found in weights],
            )
            values.append(value)
            logits_nV[block] = head.before_cap(gradient_bV, logits_nV[block])
        yield part, _sum(values), logits_nV


def _blocks(logits_nV: Tensor) -> Iterator[slice]:
    rows, columns = logits_nV.shape
    step = max(1, BLOCK_BYTES // (4 * columns)) if logits_nV.device.type == "cpu" else rows
    return (slice(start, start + step) for start in range(0, rows, step))


def _pulled(
    logits_bV: Tensor, pulls: Sequence[Pull], targets: Sequence[Distribution], weights: Sequence[Tensor | None]
) -> tuple[Tensor, Tensor]:
    """The pulls' sum over some positions, and its gradient by their logits."""
    total, gradient_bV = logits_bV.new_zeros(()), None
    for pull, target, weight_b in zip(pulls, targets, weights, strict=True):
        scores_bV = logits_bV if pull.temperature == 1.0 else logits_bV / pull.temperature
        value_b, part_bV = target.pull(scores_bV, pull.divergence)
        if weight_b is not None:
            value_b, part_bV = value_b * weight_b, part_bV.mul_(weight_b[:, None])
        total = total + pull.weight * value_b.sum()
        factor = pull.weight / pull.temperature
        if gradient_bV is None:
            gradient_bV = part_bV if factor == 1.0 else part_bV.mul_(factor)
        else:
            gradient_bV.add_(part_bV, alpha=factor)
    assert gradient_bV is not None, "a loss has at least one part"
    return total, gradient_bV


def _sum(values: Sequence[Tensor] | Iterator[Tensor]) -> Tensor:
    return torch.stack(list(values)).sum()

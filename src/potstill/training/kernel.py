"""The loss of many positions whose logits never live all at once: chunk by chunk, with the gradient formed on the way.

Each chunk takes three products with the student's head (logits, and the gradients of hidden states and weights; two where the head is
frozen) and one with the teacher's where its logits are wanted; nothing is computed again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from potstill.training.distributions import Distribution
from potstill.training.head import Head, product_dtype
from potstill.training.losses import Divergence

LOGIT_BYTES = 64 * 2**20
"""Of one chunk's float32 logits: large enough for fast matrix products, small beside any model."""
BLOCK_BYTES = 2**20
"""Bound of the logits that are worked on at once on a CPU: they stay in its cache from one elementwise step to the next."""

TILE_TOKENS = 8192
"""So many tokens' rows of the head's gradient are added at once where products are in 16 bits: a second (V, D) array would be large."""

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

    At most `chunk` positions are worked through at a time, by default `chunk_size`. Matrix products are in the dtype of the hidden states,
    or autocast's; all else in float32 at least. Memory beside the gradients does not grow with N.

    The gradients are formed here, and handed on by the backward pass without a copy: it can be made once, and raises RuntimeError after.
    """
    size = chunk or chunk_size(head)
    if torch.is_grad_enabled() and (hidden_ND.requires_grad or any(parameter.requires_grad for parameter in head.parameters)):
        result: Tensor = _GradientInForward.apply(head, pulls, size, hidden_ND, *head.parameters)  # type: ignore[no-untyped-call]
        return result
    with torch.no_grad():
        used = head.cast(product_dtype(hidden_ND))
        return _sum([_pulled_chunk(hidden_ND[part], used, pulls, part)[0] for part in _chunks(len(hidden_ND), size)], hidden_ND)


def chunk_size(head: Head) -> int:
    """Positions whose float32 logits fill LOGIT_BYTES, or a quarter of the head's own (V, D) where that is more.

    Every chunk's products read the whole head, so a large one asks for many positions at once to be worth it.
    """
    tokens, width = head.weight_VD.shape
    return max(1, LOGIT_BYTES // (4 * tokens), width // 4)


class _GradientInForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, head: Head, pulls: Sequence[Pull], size: int, hidden_ND: Tensor, *parameters: Tensor) -> Tensor:
        used = head.cast(product_dtype(hidden_ND))
        hidden_gradient_ND = torch.empty_like(hidden_ND)
        gradients = _HeadGradients(parameters)

        def learn(part: slice) -> Tensor:
            value, gradient_nV = _pulled_chunk(hidden_ND[part], used, pulls, part)
            hidden_gradient_ND[part] = gradient_nV @ used.weight_VD
            gradients.add(gradient_nV, hidden_ND[part].to(gradient_nV.dtype))
            return value

        with torch.autocast(hidden_ND.device.type, enabled=False):
            # What a chunk made is gone when the next one begins.
            values = [learn(part) for part in _chunks(len(hidden_ND), size)]
        ctx.gradients = hidden_gradient_ND, gradients
        return _sum(values, hidden_ND)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("this loss has handed on its gradients: it goes backward once, also with retain_graph; take the loss anew")
        # Nobody holds them from here on: so autograd adds to them, and keeps them as `.grad`, without a copy of (V, D).
        (hidden_gradient_ND, gradients), ctx.gradients = ctx.gradients, None
        return None, None, None, _times(hidden_gradient_ND, upstream), *gradients.times(upstream)


class _HeadGradients:
    """Sums over chunks of what the head's parameters get, in float32 at least; nothing for those that are frozen."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._parameters = parameters
        # Made before any chunk's arrays, which then take each other's place in memory.
        self._sums = [_sum_of(parameter) if parameter.requires_grad else None for parameter in parameters]
        self._begun = False

    def add(self, gradient_nV: Tensor, hidden_nD: Tensor) -> None:
        for so_far in self._sums:
            if so_far is None:
                continue
            if so_far.dim() == 1:
                so_far += gradient_nV.sum(dim=0, dtype=so_far.dtype)
            else:
                _add_product(so_far, gradient_nV, hidden_nD, keep=self._begun)
        self._begun = True

    def times(self, upstream: Tensor) -> list[Tensor | None]:
        """The sums, multiplied in place; zeros where there was no chunk."""
        return [
            None if found is None else _times(found if self._begun else found.zero_(), upstream).to(parameter.dtype)
            for found, parameter in zip(self._sums, self._parameters, strict=True)
        ]


def _sum_of(parameter: Tensor) -> Tensor:
    """A weight's is not filled: the first chunk's product takes the place of zeros, which would have to be written and read."""
    make = torch.empty_like if parameter.dim() == 2 else torch.zeros_like
    return make(parameter, dtype=torch.promote_types(parameter.dtype, torch.float32))


def _add_product(so_far_VD: Tensor, gradient_nV: Tensor, hidden_nD: Tensor, *, keep: bool) -> None:
    """Add the product to the sum, or put it in its place."""
    if so_far_VD.dtype == gradient_nV.dtype:
        so_far_VD.addmm_(gradient_nV.t(), hidden_nD, beta=float(keep))
        return
    for tile in _chunks(len(so_far_VD), TILE_TOKENS):
        product_TD = gradient_nV[:, tile].t() @ hidden_nD
        if keep:
            so_far_VD[tile].add_(product_TD)
        else:
            so_far_VD[tile].copy_(product_TD)


def _times(gradient: Tensor, upstream: Tensor) -> Tensor:
    return gradient.mul_(upstream.to(gradient.dtype))


def _chunks(positions: int, most: int) -> list[slice]:
    """As few as can be, and equally long: a last one of a few positions would cost a pass over the head's weights, too."""
    count = -(-positions // most)
    edges = [positions * turn // count for turn in range(count + 1)] if count else []
    return [slice(*ends) for ends in pairwise(edges)]


def _pulled_chunk(hidden_nD: Tensor, head: Head, pulls: Sequence[Pull], part: slice) -> tuple[Tensor, Tensor]:
    """A chunk's part of the loss, and its gradient (n, V) by the head's own products."""
    logits_nV = head.logits(hidden_nD.to(head.weight_VD.dtype))
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
    return _sum(values, logits_nV), logits_nV.to(head.weight_VD.dtype)


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


def _sum(values: list[Tensor], like: Tensor) -> Tensor:
    return torch.stack(values).sum() if values else like.new_zeros(())

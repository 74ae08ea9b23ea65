"""Relations between positions held against a teacher's (MiniLM): widths and heads of the two may differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from potstill.training.losses.base import FLOOR, precise

_BLOCK_BYTES = 64 * 2**20
"""Bound of one array of relations (heads, positions, earlier positions) in float32."""


def relation_kl(
    student_BTD: Tensor,
    teacher_BTE: Tensor,
    positions_N: Tensor,
    weights_N: Tensor | None = None,
    *,
    heads: int,
    block: int | None = None,
) -> Tensor:
    """Σ_n w_n · (1/R) Σ_r KL(p_nr ‖ q_nr) over N positions and R relation `heads`, in nats.

    Both inputs are queries, or keys, or values of B rows of T tokens, all heads side by side. Each is cut anew into R heads of D/R (the
    student) and E/R (the teacher); q_nr is the softmax over positions j ≤ n of the same row of a_n · a_j / √(D/R), p_nr the teacher's.
    Self-attention relations of MiniLMv2 (Wang et al. 2021, arXiv 2012.15828), made causal: a position relates to itself and to
    earlier ones, so that padding on the right takes no part.

    `positions_N` are places in the flattened (B·T) batch, in rising order; `weights_N` is what each counts, None: 1. Zero exactly where
    both inputs are the same. Computed in float32 at least. The gradient, (q − p) through the product, is formed on the way: no array
    of relations outlives its block, `block` positions of a row. Widths must be multiples of R.
    """
    assert student_BTD.shape[-1] % heads == 0, "relation heads divide the student's width"
    assert teacher_BTE.shape[-1] % heads == 0, "relation heads divide the teacher's width"
    weights_N = torch.ones(len(positions_N), device=positions_N.device) if weights_N is None else weights_N
    block = block or max(1, _BLOCK_BYTES // (4 * heads * student_BTD.shape[1]))
    where = _Where(positions_N.cpu(), weights_N, student_BTD.shape[1], block)
    value: Tensor = _GradientInForward.apply(student_BTD, teacher_BTE, where, heads)  # type: ignore[no-untyped-call]
    return value


class _Where(NamedTuple):
    """Places in a flattened batch of rows of `tokens`, on the CPU (so that an accelerator is waited for once), and what each counts."""

    positions_N: Tensor
    weights_N: Tensor
    tokens: int
    block: int

    def blocks(self) -> Iterator[tuple[int, Tensor, Tensor]]:
        """A row, at most `block` of the places in it, and their weights."""
        start = 0
        rows, counts = torch.unique_consecutive(self.positions_N // self.tokens, return_counts=True)
        for row, count in zip(rows.tolist(), counts.tolist(), strict=True):
            for begin in range(start, start + count, self.block):
                part = slice(begin, min(begin + self.block, start + count))
                yield row, self.positions_N[part] % self.tokens, self.weights_N[part]
            start += count


class _GradientInForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student_BTD: Tensor, teacher_BTE: Tensor, where: _Where, heads: int) -> Tensor:
        total = precise(student_BTD.new_zeros(()))
        gradient_BTD = torch.zeros_like(student_BTD, dtype=total.dtype) if ctx.needs_input_grad[0] else None
        with torch.autocast(student_BTD.device.type, enabled=False):
            for row, places_n, weights_n in where.blocks():
                seen, weights_n1 = int(places_n[-1]) + 1, weights_n[:, None].to(total.dtype) / heads
                student_RKd, teacher_RKe = (_cut(found[row, :seen].to(total.dtype), heads) for found in (student_BTD, teacher_BTE))
                logq_RnK, logp_RnK = _log_relations(student_RKd, places_n), _log_relations(teacher_RKe, places_n)
                p_RnK = logp_RnK.exp()
                total += (weights_n1 * (p_RnK * (logp_RnK - logq_RnK)).sum(dim=-1, keepdim=True)).sum()
                if gradient_BTD is not None:
                    slope_RnK = logq_RnK.exp_().sub_(p_RnK).mul_(weights_n1).mul_(student_RKd.shape[-1] ** -0.5)
                    gradient_RKd = slope_RnK.transpose(1, 2) @ student_RKd[:, places_n]
                    gradient_RKd.index_add_(1, places_n.to(gradient_RKd.device), slope_RnK @ student_RKd)
                    gradient_BTD[row, :seen] += gradient_RKd.transpose(0, 1).flatten(1)
        ctx.gradient_BTD = None if gradient_BTD is None else gradient_BTD.to(student_BTD.dtype)
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        found = ctx.gradient_BTD
        return None if found is None else found.mul_(upstream.to(found.dtype)), None, None, None


def _cut(states_KD: Tensor, heads: int) -> Tensor:
    return states_KD.reshape(len(states_KD), heads, -1).transpose(0, 1)


def _log_relations(states_RKd: Tensor, places_n: Tensor) -> Tensor:
    """(R, n, K) logarithms of what each place's relations to all K are, FLOOR for those that come after it."""
    scores_RnK = (states_RKd[:, places_n] @ states_RKd.transpose(1, 2)) * states_RKd.shape[-1] ** -0.5
    later_nK = torch.arange(states_RKd.shape[1])[None] > places_n[:, None]
    return torch.log_softmax(scores_RnK.masked_fill(later_nK.to(scores_RnK.device), -torch.inf), dim=-1).clamp_min(FLOOR)

"""Attention maps held against a teacher's: where each position looks."""

from __future__ import annotations

from torch import Tensor

from potstill.training.losses.base import FLOOR, precise, weighted_sum


def attention_mse(student_NHK: Tensor, teacher_NHK: Tensor, weights_N: Tensor | None = None) -> Tensor:
    """Σ_n w_n · (1/H) Σ_h Σ_k (q_nhk − p_nhk)²: a sum over N positions, a mean over H heads, a sum over K keys; squared probabilities.

    Zero exactly where both are the same, at most 2 a position. L_attn of TinyBERT (Jiao et al. 2020, arXiv 1909.10351) on
    probabilities: the paper prefers the scores before the softmax, which models do not give. The sum over keys, in place of a mean, does
    not shrink as rows grow or are padded. `weights_N` is what each position counts; None: 1. Computed in float32 at least.
    """
    difference_NHK = precise(student_NHK) - precise(teacher_NHK)
    return weighted_sum(difference_NHK.square().sum(dim=-1).mean(dim=-1), weights_N)


def attention_kl(student_NHK: Tensor, teacher_NHK: Tensor, weights_N: Tensor | None = None) -> Tensor:
    """Σ_n w_n · (1/H) Σ_h KL(p_nh ‖ q_nh), KL = Σ_k p log(p / q): a sum over N positions, a mean over H heads, in nats.

    The teacher's p and the student's q are probabilities over K keys; zero exactly where both are the same. Attention transfer of
    MobileBERT (Sun et al. 2020, arXiv 2004.02984). Where the student cannot look and the teacher does (a shorter window), it is as
    large as `FLOOR` makes it. `weights_N` is what each position counts; None: 1. Computed in float32 at least.
    """
    p_NHK = precise(teacher_NHK)
    value_NHK = p_NHK * (_log(p_NHK) - _log(precise(student_NHK)))
    return weighted_sum(value_NHK.sum(dim=-1).mean(dim=-1), weights_N)


def _log(p_NHK: Tensor) -> Tensor:
    """FLOOR where a probability is 0, without the infinite slope that the logarithm has there."""
    nothing_NHK = p_NHK == 0.0
    return p_NHK.masked_fill(nothing_NHK, 1.0).log().masked_fill(nothing_NHK, FLOOR)

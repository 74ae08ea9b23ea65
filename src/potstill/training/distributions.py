"""What some positions should look like: a distribution over the whole vocabulary, or over some tokens and all the rest together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from potstill.training.losses import FLOOR, Divergence, log_probabilities, logit_gradient


class Distribution(Protocol):
    """A teacher's distribution at each of n positions."""

    def rows(self, part: slice) -> Distribution:
        """The same at some of the positions."""
        ...

    def pull(self, scores_nV: Tensor, divergence: Divergence) -> tuple[Tensor, Tensor]:
        """The divergence (n) from softmax(scores), in nats, and its gradient (n, V) by the scores, which stay as they are."""
        ...


@dataclass(frozen=True)
class Dense:
    """softmax(`logits_nV`) over the student's V tokens."""

    logits_nV: Tensor

    def rows(self, part: slice) -> Dense:
        """The same at some of the positions."""
        return Dense(self.logits_nV[part])

    def pull(self, scores_nV: Tensor, divergence: Divergence) -> tuple[Tensor, Tensor]:
        """The divergence between the two softmaxes."""
        logq_nV = log_probabilities(scores_nV)
        value_n, slope_nV = divergence(logq_nV, log_probabilities(self.logits_nV))
        return value_n, logit_gradient(slope_nV, logq_nV.exp_())


@dataclass(frozen=True)
class Sparse:
    """Probabilities of K tokens at each position, and of all others together.

    `ids_nK` are token ids, different ones at a position; −1 is no token (then `logp_nK` says nothing). `logp_nK` are natural logarithms.
    `tail_logp_n` is the logarithm of what is left for all other tokens; None: nothing is left. Where `known_n` is False there is no target:
    the divergence and its gradient are 0 there.

    The divergence is one between distributions over K + 1 events, the last of which is "another token". With K = V and no tail it is
    the dense one. Without a tail and with probabilities that are an unbiased estimate, cross-entropy's gradient is one, too; other
    divergences', which are not linear in p, are not.
    """

    ids_nK: Tensor
    logp_nK: Tensor
    tail_logp_n: Tensor | None = None
    known_n: Tensor | None = None

    def rows(self, part: slice) -> Sparse:
        """The same at some of the positions."""
        tail_logp_n = None if self.tail_logp_n is None else self.tail_logp_n[part]
        return Sparse(self.ids_nK[part], self.logp_nK[part], tail_logp_n, None if self.known_n is None else self.known_n[part])

    def pull(self, scores_nV: Tensor, divergence: Divergence) -> tuple[Tensor, Tensor]:
        """The divergence between the K + 1 events' probabilities."""
        absent_nK = self.ids_nK < 0
        # What is no token repeats the first one, so that it changes no other.
        ids_nK = torch.where(absent_nK, self.ids_nK[:, :1].clamp_min(0), self.ids_nK)
        highest_n1 = scores_nV.amax(dim=-1, keepdim=True)
        weights_nV = (scores_nV - highest_n1).exp_()
        named_nK = weights_nV.gather(1, ids_nK)
        weights_nV.scatter_(1, ids_nK, 0.0)
        rest_n1 = weights_nV.sum(dim=-1, keepdim=True)
        total_n1 = rest_n1 + named_nK.masked_fill(absent_nK, 0.0).sum(dim=-1, keepdim=True)

        log_total_n1 = total_n1.log()
        logq_nK = (scores_nV.gather(1, ids_nK) - highest_n1 - log_total_n1).masked_fill(absent_nK, FLOOR)
        logq_tail_n1 = (rest_n1.log() - log_total_n1).clamp_min(FLOOR)
        value_n, slope_nE = divergence(torch.cat([logq_nK, logq_tail_n1], dim=1), self._events(absent_nK, scores_nV.dtype))

        slope_nK, slope_tail_n1 = slope_nE[:, :-1], slope_nE[:, -1:]
        sum_n1 = slope_nE.sum(dim=-1, keepdim=True)
        # Of another token: its share of the rest takes part in the tail's slope, its own probability in the sum.
        tiny = torch.finfo(rest_n1.dtype).tiny
        gradient_nV = weights_nV.mul_(slope_tail_n1 / rest_n1.clamp_min(tiny) - sum_n1 / total_n1)
        named_gradient_nK = (slope_nK - logq_nK.exp() * sum_n1).masked_fill(absent_nK, 0.0)
        gradient_nV.scatter_add_(1, ids_nK, named_gradient_nK)
        if self.known_n is None:
            return value_n, gradient_nV
        return value_n * self.known_n, gradient_nV.masked_fill_(~self.known_n[:, None], 0.0)

    def _events(self, absent_nK: Tensor, dtype: torch.dtype) -> Tensor:
        logp_nK = self.logp_nK.to(dtype).masked_fill(absent_nK, FLOOR)
        tail_logp_n = torch.full_like(logp_nK[:, 0], FLOOR) if self.tail_logp_n is None else self.tail_logp_n.to(dtype)
        return torch.cat([logp_nK, tail_logp_n[:, None]], dim=1).clamp_min(FLOOR)


def one_hot(ids_n: Tensor) -> Sparse:
    """All probability at one token of each position."""
    return Sparse(ids_n[:, None], torch.zeros(len(ids_n), 1, device=ids_n.device))


def mixture(parts: Sequence[tuple[float | Tensor, Dense]]) -> Dense:
    """Σ w p / Σ w of distributions over one vocabulary; a weight is one number, or one a position (n)."""
    weights = torch.stack(
        [torch.as_tensor(weight, device=part.logits_nV.device).float().expand(len(part.logits_nV)) for weight, part in parts]
    )
    logs = (weights / weights.sum(dim=0)).log()
    whole = [log_probabilities(part.logits_nV) + log_n[:, None] for (_, part), log_n in zip(parts, logs, strict=True)]
    columns = max(part.shape[1] for part in whole)
    return Dense(torch.logsumexp(torch.stack([part.expand(-1, columns) for part in whole]), dim=0))

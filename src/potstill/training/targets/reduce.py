"""From a teacher's whole distribution at some positions to the few numbers that are kept of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.training.losses import log_probabilities
from potstill.training.targets.stored import SparseArrays


class Reduction(Protocol):
    """What is kept of logits (n, V); `uniforms_n` in [0, 1) are for what is drawn, and the same at the same position of the same row."""

    def __call__(self, logits_nV: Tensor, uniforms_n: NDArray[np.float64]) -> SparseArrays:
        """The targets of the n positions."""
        ...


@dataclass(frozen=True)
class TopK:
    """The `k` likeliest tokens, and what is left for all others as one number: a distribution over k + 1 events, each with its true
    probability."""

    k: int

    def __call__(self, logits_nV: Tensor, uniforms_n: NDArray[np.float64]) -> SparseArrays:
        """The targets of the n positions."""
        del uniforms_n
        logp_nV = log_probabilities(logits_nV)
        logp_nK, ids_nK = logp_nV.topk(min(self.k, logp_nV.shape[1]), dim=-1)
        tail_n = logp_nV.scatter_(1, ids_nK, -torch.inf).logsumexp(dim=-1)
        return SparseArrays(
            ids_nK.to(torch.int32).cpu().numpy(), logp_nK.cpu().numpy(), tail_n.cpu().numpy(), np.ones(len(logits_nV), dtype=np.bool_)
        )


@dataclass(frozen=True)
class Sampled:
    """`samples` draws from the teacher's distribution p; a token that was drawn c times has the probability c / samples, all others 0.

    Its expectation is p, so cross-entropy's gradient is right on average (Anshumann et al. 2025, arXiv 2503.16870; the weight p/q of a draw
    is 1 where draws are from q = p itself). The draws of a position are evenly spaced along its cumulated probabilities, behind one random
    start (systematic sampling): each is a draw from p, and a token of probability p is drawn ⌊samples · p⌋ or ⌈samples · p⌉ times, which
    varies less than among independent draws.
    """

    samples: int

    def __call__(self, logits_nV: Tensor, uniforms_n: NDArray[np.float64]) -> SparseArrays:
        """The targets of the n positions."""
        logp_nV = log_probabilities(logits_nV)
        # Apple's accelerators know no float64, in which the sums of small shares stay exact.
        reached_nV = (logp_nV.cpu() if logp_nV.device.type == "mps" else logp_nV).double().exp_().cumsum(dim=-1)
        # Of the points (start + j) / samples, so many lie below the upper end of a token's share.
        start_n1 = torch.from_numpy(uniforms_n).to(reached_nV.device)[:, None]
        reached_nV.div_(reached_nV[:, -1:].clone()).mul_(self.samples).sub_(start_n1).ceil_().clamp_(0, self.samples)
        times_nV = reached_nV.diff(dim=-1, prepend=torch.zeros_like(start_n1))
        rows_T, ids_T = (found.cpu().numpy() for found in times_nV.nonzero(as_tuple=True))
        return self._in_columns(len(logits_nV), rows_T, ids_T, times_nV[times_nV > 0].cpu().numpy())

    def _in_columns(self, count: int, rows_T: NDArray[np.int64], ids_T: NDArray[np.int64], times_T: NDArray[np.float64]) -> SparseArrays:
        sizes_n = np.bincount(rows_T, minlength=count)
        columns_T = np.arange(len(rows_T)) - np.repeat(np.cumsum(sizes_n) - sizes_n, sizes_n)
        ids_nK = np.full((count, int(sizes_n.max(initial=1))), -1, dtype=np.int32)
        logp_nK = np.zeros(ids_nK.shape, dtype=np.float32)
        ids_nK[rows_T, columns_T] = ids_T
        logp_nK[rows_T, columns_T] = np.log(times_T / self.samples)
        return SparseArrays(ids_nK, logp_nK, np.full(count, -np.inf, dtype=np.float32), np.ones(count, dtype=np.bool_))


def join(parts: Sequence[SparseArrays]) -> SparseArrays:
    """Targets one after the other; −1 fills up where some have fewer columns than others."""
    width = max(part.ids_PK.shape[1] for part in parts)
    ids = [np.pad(part.ids_PK, ((0, 0), (0, width - part.ids_PK.shape[1])), constant_values=-1) for part in parts]
    logp = [np.pad(part.logp_PK, ((0, 0), (0, width - part.logp_PK.shape[1]))) for part in parts]
    tails, known = (np.concatenate([getattr(part, name) for part in parts]) for name in ("tail_logp_P", "known_P"))
    return SparseArrays(np.concatenate(ids), np.concatenate(logp), tails, known)

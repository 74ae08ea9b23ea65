"""Several teachers in memory: each row has the mixture of those that teach it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.records import Example
from potstill.training.batches import Batch, TokenRows
from potstill.training.distributions import Dense, Distribution, mixture
from potstill.training.kernel import ChunkTarget
from potstill.training.targets.live_teacher import LiveTeacher


class SeveralTeachers:
    """Σ w p / Σ w of teachers' distributions, with weights `weights_RK` of K teachers for each of R rows; one of weight 0 does not read
    the row."""

    def __init__(self, teachers: Sequence[LiveTeacher], weights_RK: NDArray[np.float64]) -> None:
        self._teachers, self._weights_RK = teachers, weights_RK

    def at(self, batch: Batch) -> ChunkTarget:
        """Each teacher's backbone runs on its rows of the batch; heads follow chunk by chunk."""
        weights_BK = self._weights_RK[batch.rows_B]
        parts = [_Part(teacher, batch, weights_BK[:, k]) for k, teacher in enumerate(self._teachers) if weights_BK[:, k].any()]

        def mixed(part: slice) -> Distribution:
            return mixture([(one.weights_N[part], one.dense(part)) for one in parts])

        return mixed


class _Part:
    """One teacher's part in a batch: its weight at each of the N positions, 0 where it does not read the row."""

    def __init__(self, teacher: LiveTeacher, batch: Batch, weights_B: NDArray[np.float64]) -> None:
        reads_B = weights_B > 0
        device = batch.labels_N.device
        self.weights_N = torch.from_numpy(np.repeat(weights_B, batch.counts_B).astype(np.float32)).to(device)
        self._reads_N = self.weights_N > 0
        # Positions before each, among those that the teacher reads: they keep their order.
        self._before_N = torch.cat([torch.zeros(1, dtype=torch.long, device=device), self._reads_N.long().cumsum(0)])
        self._target = teacher.at(batch.of_rows(reads_B))

    def dense(self, part: slice) -> Dense:
        """The teacher's logits; 0 where it has weight 0, which does not count."""
        begin, end = int(self._before_N[part.start]), int(self._before_N[min(part.stop, len(self._reads_N))])
        reads_n = self._reads_N[part]
        if begin == end:
            return Dense(torch.zeros(len(reads_n), 1, device=reads_n.device))
        found = self._target(slice(begin, end))
        assert isinstance(found, Dense), "live teachers give whole distributions"
        logits_nV: Tensor = found.logits_nV.new_zeros(len(reads_n), found.logits_nV.shape[1])
        logits_nV[reads_n] = found.logits_nV
        return Dense(logits_nV)


def row_weights(
    rows: TokenRows, examples: Sequence[Example], teachers: Sequence[tuple[str, float]], *, by_row: bool
) -> NDArray[np.float64]:
    """(R, K): what each of K teachers (title, weight) counts for each of R rows: its weight, and, `by_row`, only for rows that it answered.

    A row that none of them is known to have answered has all of them.
    """
    whole_K = np.array([weight for _, weight in teachers], dtype=np.float64)
    found_RK = np.tile(whole_K, (len(rows), 1))
    if by_row:
        for number, origin in enumerate(rows.examples):
            said = (examples[int(origin)].teacher or "").split(" + ")
            wrote_K = np.array([title in said for title, _ in teachers])
            if wrote_K.any():
                found_RK[number] = whole_K * wrote_K
    return found_RK

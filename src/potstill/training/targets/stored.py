"""Distributions that were made beforehand: some tokens' probabilities at each trained position, and the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from potstill.training.batches import Batch
from potstill.training.distributions import Sparse
from potstill.training.kernel import ChunkTarget


@dataclass(frozen=True)
class SparseArrays:
    """Sparse targets of P positions, K tokens each.

    `ids_PK`: token ids of the student, −1 where there is none. `logp_PK`: their natural log-probabilities. `tail_logp_P`: that of all other
    tokens together, −inf where nothing is left. `known_P`: False where a position has no target at all.
    """

    ids_PK: NDArray[np.int32]
    logp_PK: NDArray[np.float32]
    tail_logp_P: NDArray[np.float32]
    known_P: NDArray[np.bool_]


class SparseStore(Protocol):
    """Sparse targets of all trained positions of all rows, row after row: row i has positions `starts[i]` to `starts[i + 1]`."""

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each row's positions begin, and where the last one's end (R + 1)."""
        ...

    def take(self, places_P: NDArray[np.int64]) -> SparseArrays:
        """The targets of these positions, in this order."""
        ...


@dataclass(frozen=True)
class SparseRows:
    """A store in memory."""

    starts: NDArray[np.int64]
    arrays: SparseArrays

    def take(self, places_P: NDArray[np.int64]) -> SparseArrays:
        """The targets of these positions, in this order."""
        found = self.arrays
        return SparseArrays(found.ids_PK[places_P], found.logp_PK[places_P], found.tail_logp_P[places_P], found.known_P[places_P])


class StoredTargets:
    """The targets that a store holds for the rows of a batch; `store` has a row for each row that is trained on."""

    def __init__(self, store: SparseStore) -> None:
        self._store = store

    def at(self, batch: Batch) -> ChunkTarget:
        """Sparse distributions, read for the whole batch at once: N · K numbers."""
        begins_B = self._store.starts[batch.rows_B]
        assert (self._store.starts[batch.rows_B + 1] - begins_B == batch.counts_B).all(), "a store of other rows"
        places = [np.arange(begin, begin + count) for begin, count in zip(begins_B, batch.counts_B, strict=True)]
        found, device = self._store.take(np.concatenate(places)), batch.labels_N.device
        whole = Sparse(
            torch.from_numpy(found.ids_PK.astype(np.int64)).to(device),
            torch.from_numpy(found.logp_PK.astype(np.float32)).to(device),
            torch.from_numpy(found.tail_logp_P.astype(np.float32)).to(device),
            None if found.known_P.all() else torch.from_numpy(found.known_P).to(device),
        )
        return whole.rows

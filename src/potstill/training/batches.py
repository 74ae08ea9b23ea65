"""Rows as token ids, cut into batches of like length; the shift from token to next token happens here, and only here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

WRITTEN = -1
"""The place of a row that is none of the given ones: the student wrote it."""

PART_TOKENS = 1024
"""A CPU trains on so many tokens at once as fast as on more, in less memory (docs/log.md)."""

_STEPS_SORTED_TOGETHER = 50
"""So many steps' rows are sorted by length together: enough for little padding, few enough that epochs differ."""


@dataclass(frozen=True)
class Batch:
    """Rows that go through a model together, padded on the right.

    `input_ids_BT`: tokens. `positions_N`: places in the flattened (B·T) batch whose prediction is trained. `labels_N`: the token
    that follows each of these places. `tokens`: how many tokens the rows have, padding apart. `rows_B`: which row of all each one is, or
    WRITTEN, `counts_B` how many trained positions it has (they stand row after row), and `lengths_B` how many tokens. `weights_N`: what
    each position counts, None where all count 1.
    """

    input_ids_BT: Tensor
    positions_N: Tensor
    labels_N: Tensor
    tokens: int
    rows_B: NDArray[np.int64]
    counts_B: NDArray[np.int64]
    lengths_B: NDArray[np.int64]
    weights_N: Tensor | None = None

    def __len__(self) -> int:
        return len(self.input_ids_BT)

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device; accelerate calls it."""
        return replace(
            self,
            input_ids_BT=self.input_ids_BT.to(device),
            positions_N=self.positions_N.to(device),
            labels_N=self.labels_N.to(device),
            weights_N=None if self.weights_N is None else self.weights_N.to(device),
        )

    def of_rows(self, kept_B: NDArray[np.bool_]) -> Batch:
        """The batch of some of its rows, one or more, padded to the longest of them."""
        device, before = self.labels_N.device, self.input_ids_BT.shape[1]
        lengths_B = self.lengths_B[kept_B]
        longest = int(lengths_B.max())
        kept_N = torch.from_numpy(np.repeat(kept_B, self.counts_B)).to(device)
        new_row_B = torch.from_numpy(np.cumsum(kept_B) - 1).to(device)
        positions_N = self.positions_N[kept_N]
        return replace(
            self,
            input_ids_BT=self.input_ids_BT[torch.from_numpy(kept_B).to(device), :longest],
            positions_N=new_row_B[positions_N // before] * longest + positions_N % before,
            labels_N=self.labels_N[kept_N],
            tokens=int(lengths_B.sum()),
            rows_B=self.rows_B[kept_B],
            counts_B=self.counts_B[kept_B],
            lengths_B=lengths_B,
            weights_N=None if self.weights_N is None else self.weights_N[kept_N],
        )

    def split(self, least: int = PART_TOKENS) -> list[Batch]:
        """Batches of neighbouring rows, each of at least `least` tokens (padding counted), that are this one together; itself, if small.

        Their losses and gradients add up to the whole one's, and only one of them needs memory at a time.
        """
        edges = [0]
        for row in range(1, len(self)):
            if min(_padded(self.lengths_B[edges[-1] : row]), _padded(self.lengths_B[row:])) >= least:
                edges.append(row)
        part_B = np.digitize(np.arange(len(self)), edges)
        return [self.of_rows(part_B == part) for part in range(1, len(edges) + 1)] if len(edges) > 1 else [self]


@dataclass(frozen=True)
class TokenRows(Sequence["TokenRow"]):
    """Many rows in flat arrays: row i is ids[starts[i]:starts[i+1]], and `trained` says which of its tokens are targets.

    `weights` is what each row counts in the loss; None: all count 1. `examples` is which of the conversations each row came of.
    """

    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]
    starts: NDArray[np.int64]
    examples: NDArray[np.int64]
    weights: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> TokenRow:  # type: ignore[override]
        part = slice(int(self.starts[index]), int(self.starts[index + 1]))
        weight = 1.0 if self.weights is None else float(self.weights[index])
        return TokenRow(self.ids[part], self.trained[part], index, weight)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row."""
        return np.diff(self.starts)


@dataclass(frozen=True)
class TokenRow:
    """One row: its token ids, which of them are targets, its place among all rows (WRITTEN: none), and what it counts."""

    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]
    index: int = 0
    weight: float = 1.0


def next_token_positions(row: TokenRow) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Where the model predicts a trained token, and which one: position i−1 predicts token i.

    The first token of a row has no place that predicts it, and is never trained.
    """
    targets = np.flatnonzero(row.trained[1:]) + 1
    return targets - 1, row.ids[targets]


def most_rows_of_a_part(lengths: NDArray[np.int64], least: int = PART_TOKENS) -> int:
    """So many of the longest rows go through a CPU at once where `Batch.split` cuts a batch of them into parts."""
    return max(1, -(-least // int(lengths.max())))


def _padded(lengths: NDArray[np.int64]) -> int:
    """Tokens of a batch of such rows."""
    return int(len(lengths) * lengths.max())


def collate(rows: Sequence[TokenRow], pad_id: int) -> Batch:
    """Pad rows on the right to the longest of them. What the padding is filled with is never seen: attention looks back only."""
    longest = max(len(row.ids) for row in rows)
    input_ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
    positions, labels = [], []
    for place, row in enumerate(rows):
        input_ids[place, : len(row.ids)] = row.ids
        where, what = next_token_positions(row)
        positions.append(where + place * longest)
        labels.append(what)
    counts = np.array([len(what) for what in labels], dtype=np.int64)
    weights = np.array([row.weight for row in rows], dtype=np.float32)
    return Batch(
        torch.from_numpy(input_ids),
        torch.from_numpy(np.concatenate(positions)),
        torch.from_numpy(np.concatenate(labels).astype(np.int64)),
        sum(len(row.ids) for row in rows),
        np.array([row.index for row in rows], dtype=np.int64),
        counts,
        np.array([len(row.ids) for row in rows], dtype=np.int64),
        None if (weights == 1.0).all() else torch.from_numpy(np.repeat(weights, counts)),
    )


class LengthBatches:
    """A batch sampler: steps of `batch_size` rows of like length, each cut into micro-batches, in an order drawn anew each epoch.

    The order depends on seed and epoch alone, so that a resumed run finds its place by counting. Every step has equally
    many micro-batches but an epoch's last, which holds the rows left over.
    """

    def __init__(self, lengths: NDArray[np.int64], batch_size: int, micro_batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed
        self.micro_batch_size = min(micro_batch_size, batch_size)
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of this epoch when next iterated."""
        self._epoch = epoch

    @property
    def micro_batches_per_step(self) -> int:
        """Micro-batches of a whole step."""
        return -(-self._batch_size // self.micro_batch_size)

    def __len__(self) -> int:
        whole, rest = divmod(len(self._lengths), self._batch_size)
        return whole * self.micro_batches_per_step + -(-rest // self.micro_batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._steps():
            for start in range(0, len(step), self.micro_batch_size):
                yield step[start : start + self.micro_batch_size].tolist()

    def _steps(self) -> list[NDArray[np.int64]]:
        generator = np.random.default_rng((self._seed, self._epoch))
        order = generator.permutation(len(self._lengths))
        group = self._batch_size * _STEPS_SORTED_TOGETHER
        steps: list[NDArray[np.int64]] = []
        for start in range(0, len(order), group):
            rows = order[start : start + group]
            rows = rows[np.argsort(-self._lengths[rows], kind="stable")]
            steps.extend(rows[at : at + self._batch_size] for at in range(0, len(rows), self._batch_size))
        short = [steps.pop()] if len(steps[-1]) < self._batch_size else []
        return [steps[place] for place in generator.permutation(len(steps))] + short

"""Running a teacher once over the rows that a cache does not hold yet."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.errors import TrainingError
from potstill.models.products import fast_products
from potstill.store.events import EventLog, Progress
from potstill.training.batches import Batch, TokenRows, collate
from potstill.training.distributions import Dense
from potstill.training.kernel import LOGIT_BYTES
from potstill.training.targets.cache import TargetCache, row_keys, trained_counts
from potstill.training.targets.live_teacher import LiveTeacher
from potstill.training.targets.reduce import Reduction, join
from potstill.training.targets.stored import SparseArrays

SHARD_POSITIONS = 16_384
"""A shard has so many positions, or one row: some 2 MB, and no more work than that is lost by a kill."""
BATCH_TOKENS = 4_096
"""So many tokens go through the teacher at once, or one row."""
# Sums over the vocabulary are in float64 where targets are drawn, and beside them stand copies.
_CHUNK_BYTES = LOGIT_BYTES // 4


@dataclass(frozen=True)
class Filling:
    """How missing targets are made: by which teacher, loaded when it is first needed, and what is kept of what it says.

    `seed` is where the draws of sampled targets start from.
    """

    load: Callable[[], LiveTeacher]
    reduction: Reduction
    seed: int
    events: EventLog
    shard_positions: int = SHARD_POSITIONS


def fill(cache: TargetCache, rows: TokenRows, filling: Filling) -> int:
    """Write the targets of all rows that `cache` lacks; returns how many those were.

    How rows are cut into shards and batches hangs on the missing rows and their order alone, and shards are whole or not there: after a
    kill the same call goes on, and the cache ends up the same, byte by byte. Raises StoreError where the disk is full (finished shards
    stay), TrainingError where memory runs out.
    """
    keys, counts = row_keys(rows), trained_counts(rows)
    if not cache.missing(keys):
        return 0
    with cache.writing():
        missing = cache.missing(keys)
        if not missing:
            return 0
        unique = len(set(keys))
        teacher, clock = filling.load(), _Clock()
        with filling.events.progress("teacher targets", unique, "rows", done=unique - len(missing)) as progress:
            for shard in _shards(missing, counts, filling.shard_positions):
                order: list[int] = []
                parts: list[SparseArrays] = []
                for places in _batches(shard, rows.lengths):
                    batch = collate([rows[place] for place in places], 0)
                    uniforms = np.concatenate([_uniforms(keys[place], filling.seed, int(counts[place])) for place in places])
                    with _memory_advice(batch), fast_products():
                        parts += _reduced(teacher, batch, uniforms, filling.reduction)
                    order += places
                    clock.tell(progress, batch)
                cache.add([keys[place] for place in order], [int(counts[place]) for place in order], join(parts))
    return len(missing)


def _reduced(teacher: LiveTeacher, batch: Batch, uniforms_N: NDArray[np.float64], reduction: Reduction) -> Iterator[SparseArrays]:
    # Where the teacher is, so that whole distributions never travel.
    target = teacher.at(batch.to(teacher.device))
    size = max(1, _CHUNK_BYTES // (4 * teacher.vocabulary))
    for start in range(0, len(uniforms_N), size):
        part = slice(start, start + size)
        found = target(part)
        assert isinstance(found, Dense)
        yield reduction(found.logits_nV, uniforms_N[part])


@contextlib.contextmanager
def _memory_advice(batch: Batch) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not re.search("out of memory|allocate memory", str(error)):
            raise
        rows, longest = batch.input_ids_BT.shape
        raise TrainingError(
            f"memory ran out while the teacher read {rows} row{'' if rows == 1 else 's'} of up to {longest} tokens "
            f"({str(error).splitlines()[0]}); free some, lower `training.max_length`, or have the teacher in `teacher.dtype: bfloat16`"
        ) from None


def _shards(places: Sequence[int], counts: NDArray[np.int64], positions: int) -> Iterator[list[int]]:
    shard: list[int] = []
    size = 0
    for place in places:
        if shard and size + counts[place] > positions:
            yield shard
            shard, size = [], 0
        shard.append(place)
        size += int(counts[place])
    yield shard


def _batches(places: Sequence[int], lengths: NDArray[np.int64]) -> Iterator[list[int]]:
    """Rows of like length together, the longest first, so that what does not fit into memory shows at once."""
    batch: list[int] = []
    for place in sorted(places, key=lambda place: (-lengths[place], place)):
        if batch and (len(batch) + 1) * lengths[batch[0]] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    yield batch


def _uniforms(key: bytes, seed: int, count: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) for a row's positions, the same wherever the row stands."""
    return np.random.default_rng([seed, *np.frombuffer(key, dtype="<u4")]).random(count)


class _Clock:
    """Tells the tokens that the teacher reads a second."""

    def __init__(self) -> None:
        self._started, self._tokens = time.monotonic(), 0

    def tell(self, progress: Progress, batch: Batch) -> None:
        """A batch was read."""
        self._tokens += batch.tokens
        speed = self._tokens / max(time.monotonic() - self._started, 1e-9)
        progress.advance(len(batch), note=f"{speed:,.0f} tokens/s")

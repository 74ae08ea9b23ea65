"""Teacher targets on disk, found by what a row holds: in whatever order, number and run its rows come again."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from potstill.errors import StoreError
from potstill.store.atomic import as_json, fingerprint, read_object, store_error, write_json
from potstill.training.batches import TokenRows
from potstill.training.targets.packing import Packing
from potstill.training.targets.reduce import join
from potstill.training.targets.shards import KEY_BYTES, Shard, read_shard, write_shard
from potstill.training.targets.stored import SparseArrays

_CONTENTS = "cache.json"


def row_keys(rows: TokenRows) -> list[bytes]:
    """What each row is known by: a hash of its token ids and of which of them are trained.

    A row's first token is never trained, whatever is said of it.
    """
    keys = []
    for row in rows:
        digest = hashlib.blake2b(row.ids.astype("<i4").tobytes(), digest_size=KEY_BYTES)
        digest.update(np.packbits(row.trained[1:]).tobytes())
        keys.append(digest.digest())
    return keys


def trained_counts(rows: TokenRows) -> NDArray[np.int64]:
    """How many trained positions each row has."""
    return np.array([int(row.trained[1:].sum()) for row in rows], dtype=np.int64)


class TargetCache:
    """The cache of all targets that `contents` describes, in a folder of its own below `base`.

    `contents` is all that a row's targets depend on besides the row: the teacher, its number format and temperature, the student's
    tokens, the method. Several processes may use one cache. Raises StoreError where what stands there is another cache, or cannot be read.
    """

    def __init__(self, base: Path, contents: dict[str, object], packing: Packing) -> None:
        self.key = fingerprint(contents)[:32]
        self.folder = base / self.key[:16]
        self._packing = packing
        self._shards: list[Shard] = []
        self._places: dict[bytes, tuple[int, int]] = {}
        self._open(contents)
        self.look()

    @property
    def positions(self) -> int:
        """Positions that have targets."""
        return sum(int(shard.starts[-1]) for shard in self._shards)

    @property
    def size(self) -> int:
        """Bytes of all shards."""
        return sum(shard.size for shard in self._shards)

    def look(self) -> None:
        """Take in the shards that were written since, by this process or another."""
        known = {shard.path for shard in self._shards}
        for path in sorted(self.folder.glob("shard-*.safetensors")):
            if path not in known:
                self._take_in(read_shard(path, self.key))

    def missing(self, keys: Sequence[bytes]) -> list[int]:
        """Places of the keys that have no targets yet, of equal ones the first."""
        first = {key: place for place, key in reversed(list(enumerate(keys))) if key not in self._places}
        return sorted(first.values())

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Nobody else writes here for the time of the block; waits for another process that does."""
        with _lock_file(self.folder / ".lock") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.look()
            yield

    def add(self, keys: Sequence[bytes], counts: Sequence[int], found: SparseArrays) -> None:
        """Write the targets of some rows, whose positions stand row after row. Raises StoreError where the disk is full."""
        names = (self.folder / f"shard-{number:05d}.safetensors" for number in itertools.count())
        path = next(name for name in names if not name.exists())
        write_shard(path, self.key, keys, counts, self._packing.pack(found))
        self._take_in(read_shard(path, self.key))

    def rows(self, rows: TokenRows) -> CachedRows:
        """The targets of these rows, all of which are there. Raises StoreError where a file that holds some is damaged."""
        found = np.array([self._places[key] for key in row_keys(rows)], dtype=np.int64)
        for number in np.unique(found[:, 0]):
            self._shards[number].prove()
        begins = np.array([self._shards[number].starts[place] for number, place in found], dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum(trained_counts(rows))]).astype(np.int64)
        return CachedRows(starts, found[:, 0], begins, tuple(self._shards), self._packing)

    def _take_in(self, shard: Shard) -> None:
        number = len(self._shards)
        self._shards.append(shard)
        self._places.update((key, (number, place)) for place, key in enumerate(shard.keys))

    def _open(self, contents: dict[str, object]) -> None:
        path, wanted = self.folder / _CONTENTS, as_json(contents)
        if not path.exists():
            write_json(path, wanted)
            return
        found = read_object(path)
        if found != wanted:
            other = ", ".join(sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key)))
            raise StoreError(
                f"{self.folder}: holds targets of another kind than its name says (other {other}); was it copied or edited? Remove it, "
                "or name another folder in `targets.cache`, and run the same command again"
            )


def _lock_file(path: Path) -> IO[str]:
    try:
        return open(path, "a", encoding="utf-8")
    except OSError as error:
        raise store_error(path, error) from None


@dataclass(frozen=True)
class CachedRows:
    """A store of R rows: row i's positions begin at `begins[i]` of the shard `numbers[i]`."""

    starts: NDArray[np.int64]
    numbers: NDArray[np.int64]
    begins: NDArray[np.int64]
    shards: tuple[Shard, ...]
    packing: Packing

    def take(self, places_P: NDArray[np.int64]) -> SparseArrays:
        """The targets of these positions, in this order."""
        rows_P = np.searchsorted(self.starts, places_P, side="right") - 1
        numbers_P = self.numbers[rows_P]
        local_P = self.begins[rows_P] + places_P - self.starts[rows_P]
        order_P = np.argsort(numbers_P, kind="stable")
        cuts = np.flatnonzero(np.diff(numbers_P[order_P])) + 1
        parts = [
            self.packing.unpack(self.shards[numbers_P[group[0]]].arrays, local_P[group]) for group in np.split(order_P, cuts) if len(group)
        ]
        back_P = np.empty_like(order_P)
        back_P[order_P] = np.arange(len(order_P))
        found = join(parts)
        return SparseArrays(found.ids_PK[back_P], found.logp_PK[back_P], found.tail_logp_P[back_P], found.known_P[back_P])

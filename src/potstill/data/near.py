"""Near duplicates: MinHash and banding propose, the exact Jaccard similarity of three-word shingles decides.

MinHash signatures come from rensa. Its own LSH table takes 2.7 KB a row; the sorted arrays here take 0.4 KB, which keeps
a million rows in bounded memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.data.ondisk import IntArray
from potstill.data.text import jaccard

Shingles = frozenset[str]

PERMUTATIONS = 256
SEED = 42
RECALL = 0.995
"""A pair exactly at the threshold is proposed with at least this chance; a closer pair with a higher one."""
TEMPLATE_SHARE = 0.1
TEMPLATE_ROWS = 10
OWN_SHINGLES = 8
BUCKET = 1_000
"""So many rows of one bucket are looked at: more share a band only where texts are stamped from one template."""
VERIFIED = 64
"""So many proposals of a row, those with the most bands in common, are compared exactly."""


def band_rows(threshold: float) -> int:
    """How many of the 256 MinHash values make a band: the most that still reach RECALL at `threshold`.

    Two rows of similarity s share at least one of b bands of r values with the chance 1 − (1 − sʳ)ᵇ (Leskovec et al.,
    Mining of Massive Datasets, §3.4.2). More values a band mean fewer proposals in vain.
    """
    sizes = [2**power for power in range(PERMUTATIONS.bit_length())]
    return max((size for size in sizes if 1 - (1 - threshold**size) ** (PERMUTATIONS // size) >= RECALL), default=1)


def hash_bands(digests: NDArray[np.uint64], band: int) -> NDArray[np.uint64]:
    """Rows of MinHash values (n, PERMUTATIONS) as one hash for each `band` of them (n, bands)."""
    values = digests.reshape(len(digests), -1, band)
    hashes = np.zeros(values.shape[:2], dtype=np.uint64)
    for column in range(band):
        hashes = (hashes ^ values[:, :, column]) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(29)
    return hashes


def template_shingles(rows: Iterable[Shingles]) -> Shingles:
    """Shingles of a prompt template, which tell nothing: those of many rows that otherwise differ. `rows` is gone through twice.

    Many: more than ten, and more than a tenth. Otherwise differ: half of these rows have eight shingles or more of their own, as a
    question in a template has, and a copy in which a word or two were changed has not; or the shingle stands in more than half
    of all rows, which copies hardly do. Without them, a long instruction around a short question would make all questions near duplicates.
    """
    counts: Counter[str] = Counter()
    total = 0
    for row in rows:
        counts.update(row)
        total += 1
    limit = max(TEMPLATE_ROWS, TEMPLATE_SHARE * total)
    common = frozenset(shingle for shingle, count in counts.items() if count > limit)
    different: Counter[str] = Counter()
    for row in rows if common else ():
        shared = row & common
        if len(row) - len(shared) >= OWN_SHINGLES:
            different.update(shared)
    return frozenset(text for text in common if 2 * counts[text] > total or 2 * different[text] >= counts[text])


class NearIndex:
    """Rows that others are compared with.

    Rows are added in order and get the keys 0, 1, …; `shingles_of(key)` must give a row's shingles back.
    """

    def __init__(self, threshold: float, shingles_of: Callable[[int], Shingles]) -> None:
        self._threshold, self._shingles_of = threshold, shingles_of
        self._band = band_rows(threshold)
        self._blanks = 0
        self._blocks: list[NDArray[np.uint64]] = []
        self._keys: IntArray | None = None
        self._sorted: NDArray[np.uint64] | None = None
        self.unverified = 0
        """Rows for which more was proposed than could be compared."""

    def add(self, rows: Sequence[Shingles]) -> None:
        """More rows."""
        assert self._sorted is None, "rows are added before the first search"
        self._blocks.append(self._bands(rows))

    def search(self, rows: Sequence[Shingles]) -> Iterator[list[tuple[int, float]]]:
        """For each row the keys of similar rows and their exact similarities, at least the threshold."""
        if self._sorted is None:
            self._freeze()
        for row, proposals in zip(rows, self._propose(self._bands(rows)), strict=True):
            found = ((key, jaccard(row, self._shingles_of(key))) for key in proposals)
            yield [(key, similarity) for key, similarity in found if similarity >= self._threshold]

    def _bands(self, rows: Sequence[Shingles]) -> NDArray[np.uint64]:
        """One hash a band and row (bands, rows)."""
        import rensa

        if not rows:
            return np.zeros((PERMUTATIONS // self._band, 0), dtype=np.uint64)
        tokens = [list(row) or [self._unlike_any()] for row in rows]
        digests = rensa.RMinHash.digest_matrix_from_token_sets(tokens, PERMUTATIONS, SEED).to_rows()
        return np.ascontiguousarray(hash_bands(np.asarray(digests, dtype=np.uint64), self._band).T)

    def _unlike_any(self) -> str:
        """A token that no text holds: rows without shingles must not look alike."""
        self._blanks += 1
        return f"\0{self._blanks}"

    def _freeze(self) -> None:
        bands = PERMUTATIONS // self._band
        rows = sum(block.shape[1] for block in self._blocks)
        self._sorted = np.empty((bands, rows), dtype=np.uint64)
        keys = np.empty((bands, rows), dtype=np.int32)
        for band in range(bands):
            hashes = np.concatenate([block[band] for block in self._blocks]) if self._blocks else np.empty(0, dtype=np.uint64)
            order = np.argsort(hashes, kind="stable")
            keys[band], self._sorted[band] = order, hashes[order]
        self._keys = keys
        self._blocks.clear()

    def _propose(self, bands: NDArray[np.uint64]) -> Iterator[list[int]]:
        """For each row the keys that share a band with it, most shared bands first."""
        assert self._sorted is not None
        assert self._keys is not None
        pairs = list(zip(self._sorted, bands, strict=True))
        lows = np.stack([np.searchsorted(column, hashes, "left") for column, hashes in pairs])
        highs = np.stack([np.searchsorted(column, hashes, "right") for column, hashes in pairs])
        sizes = highs - lows
        for row in range(bands.shape[1]):
            hit = np.flatnonzero(sizes[:, row])
            if not len(hit):
                yield []
                continue
            members = [self._keys[band, lows[band, row] : min(highs[band, row], lows[band, row] + BUCKET)] for band in hit]
            keys, shared = np.unique(np.concatenate(members), return_counts=True)
            if len(keys) > VERIFIED or sizes[:, row].max() > BUCKET:
                self.unverified += 1
            best = np.argsort(-shared, kind="stable")[:VERIFIED]
            yield [int(key) for key in keys[best]]

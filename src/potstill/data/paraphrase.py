"""Texts that say in other words what others say: TF-IDF vectors of character runs, compared by their cosine.

Character runs rather than words, so that `cancelled` is like `cancel`; rare runs weigh more than common ones (Spärck Jones 1972). A text
is a paraphrase where the cosine is LIKENESS at least and both name the same numbers. What it finds are the same words in another order,
with some changed, left out or put around; what is said in altogether other words, or in another language, it does not find
(`benchmarks/paraphrases.py`).
"""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.data.near import Shingles
from potstill.data.ondisk import IntArray
from potstill.data.text import SHINGLE_WORDS, UNSPACED, words_of

FloatArray = NDArray[np.float32]

LIKENESS = 0.75
"""Of the constructed pairs in `benchmarks/paraphrases.yaml` this tells most paraphrases from questions that only look alike."""
RUN = 4
_UNSPACED_RUN = 2
LEAST_WORDS = 4
"""Shorter texts say nothing that another might not say by chance."""
_BUCKETS = 1 << 20
"""Runs are hashed into so many places; of 100,000 different ones a tenth share theirs with another."""
_REST = 0.4
"""Candidates share some of a text's rarest runs: all but this much of its length (a unit vector's)."""
_UNSPACED_WORD = re.compile(f"[{UNSPACED}]")
_BETWEEN_UNSPACED = re.compile(f"(?<=[{UNSPACED}]) (?=[{UNSPACED}])")


@dataclass(frozen=True, slots=True)
class _Vector:
    """A text as a unit vector: the places that are not zero (n,), rarest first, their weights (n,); its numbers; how many words it has."""

    places: NDArray[np.int32]
    weights: FloatArray
    numbers: tuple[str, ...]
    words: int


class ParaphraseIndex:
    """Texts that others are compared with; about 25 bytes a character of theirs, and 8 MB besides.

    `known` are further texts, a sample will do, that tell which runs are common. Runs of words in `template` do not count.
    """

    def __init__(self, texts: Sequence[str], known: Iterable[str] = (), template: Shingles = frozenset()) -> None:
        self._template = template
        self._rarity = self._rarities(texts, known)
        self._vectors = [self._vector(text) for text in texts]
        places = np.concatenate([np.zeros(0, dtype=np.int32), *(vector.places for vector in self._vectors)])
        weights = np.concatenate([np.zeros(0, dtype=np.float32), *(vector.weights for vector in self._vectors)])
        owners = np.repeat(np.arange(len(texts), dtype=np.int32), [len(vector.places) for vector in self._vectors])
        order = np.argsort(places, kind="stable")
        self._owners, self._weights = owners[order], weights[order]
        self._starts = np.concatenate([[0], np.cumsum(np.bincount(places, minlength=_BUCKETS))]).astype(np.int32)

    def search(self, text: str) -> tuple[int, float] | None:
        """The number of the text that this one paraphrases most closely, and their likeness; None where there is none."""
        vector = self._vector(text)
        if vector.words < LEAST_WORDS:
            return None
        rest = np.sqrt(np.maximum(0.0, 1.0 - np.cumsum(vector.weights**2)))
        prefix = int(np.searchsorted(-rest, -_REST)) + 1
        shared = self._shared(vector.places[:prefix], vector.weights[:prefix])
        if shared is None:
            return None
        # What the other runs may add is at most the product of both lengths.
        rows = [int(row) for row in np.flatnonzero(shared >= LIKENESS - _REST)]
        found = [(row, self._cosine(vector, row)) for row in rows if self._vectors[row].numbers == vector.numbers]
        likest = max(found, key=lambda pair: pair[1], default=(0, 0.0))
        return likest if likest[1] >= LIKENESS and self._vectors[likest[0]].words >= LEAST_WORDS else None

    def _rarities(self, texts: Iterable[str], known: Iterable[str]) -> FloatArray:
        rows, count = np.zeros(_BUCKETS, dtype=np.int32), 0
        for group in (texts, known):
            for text in group:
                rows[np.unique(_runs(self._kept(words_of(text))))] += 1
                count += 1
        return np.asarray(np.log((2 + count) / (1 + rows)), dtype=np.float32)

    def _vector(self, text: str) -> _Vector:
        words = self._kept(words_of(text))
        places, counts = np.unique(_runs(words), return_counts=True)
        weights = (1 + np.log(counts)) * self._rarity[places]
        order = np.argsort(-self._rarity[places], kind="stable")
        length = float(np.sqrt((weights**2).sum())) or 1.0
        numbers = tuple(sorted(word for word in words if any(map(str.isdigit, word))))
        return _Vector(places[order].astype(np.int32), (weights[order] / length).astype(np.float32), numbers, len(words))

    def _kept(self, words: Sequence[str]) -> list[str]:
        """The words that are not of the template."""
        if not self._template:
            return list(words)
        common = np.zeros(len(words), dtype=np.bool_)
        for start in range(len(words) - SHINGLE_WORDS + 1):
            if " ".join(words[start : start + SHINGLE_WORDS]) in self._template:
                common[start : start + SHINGLE_WORDS] = True
        return [word for word, left_out in zip(words, common, strict=True) if not left_out]

    def _shared(self, places: NDArray[np.int32], weights: FloatArray) -> FloatArray | None:
        """The scalar product with each text (rows,), over some places; None where none shares any."""
        starts, counts = self._starts[places], self._starts[places + 1] - self._starts[places]
        total = int(counts.sum())
        if not total:
            return None
        entries = np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(total)
        products = self._weights[entries] * np.repeat(weights, counts)
        return np.bincount(self._owners[entries], products, minlength=len(self._vectors)).astype(np.float32)

    def _cosine(self, vector: _Vector, row: int) -> float:
        other = self._vectors[row]
        _, here, there = np.intersect1d(vector.places, other.places, assume_unique=True, return_indices=True)
        return float(vector.weights[here] @ other.weights[there])


def _runs(words: Sequence[str]) -> IntArray:
    """The places of a text's runs; characters of a script without blanks stand together, as they were written."""
    text = _BETWEEN_UNSPACED.sub("", " ".join(words))
    return np.fromiter((place for word in text.split() for place in _runs_of(word)), dtype=np.int64)


@functools.lru_cache(maxsize=1 << 16)  # most words of a text are among a few thousand
def _runs_of(word: str) -> tuple[int, ...]:
    width = _UNSPACED_RUN if _UNSPACED_WORD.match(word) else RUN
    text = word if width == _UNSPACED_RUN else f" {word} "
    return tuple(zlib.crc32(text[start : start + width].encode()) % _BUCKETS for start in range(max(1, len(text) - width + 1)))

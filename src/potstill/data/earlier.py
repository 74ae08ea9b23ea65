"""Rows as they come, each compared with those that were kept before it: near duplicates of question and answer.

As in `near`, MinHash and banding propose, and exact Jaccard similarity decides; but rows are added one by one. A row costs 0.4 KB
of memory, and its hashed shingles lie in a temporary file.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import weakref
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.data.grams import hash_grams, hash_words, mix
from potstill.data.near import BUCKET, PERMUTATIONS, SEED, TEMPLATE_ROWS, TEMPLATE_SHARE, VERIFIED, band_rows, hash_bands
from potstill.data.ondisk import IntArray
from potstill.data.text import SHINGLE_WORDS, hash64, normalise
from potstill.store.atomic import store_error

ShingleArray = NDArray[np.uint32]

_SAMPLE = 2_000
_RECENT = 2_048
_ANSWER = np.uint32(0x5BD1E995)  # an answer's shingles are other ones than a question's


@dataclass(frozen=True, slots=True)
class Twin:
    """An earlier row: its name, how alike question and answer are (the lesser of both, 0 to 1), and whether they are the same."""

    name: str
    similarity: float
    exact: bool


class EarlierRows:
    """The rows that were kept so far, to find out whether another nearly repeats one of them.

    Two rows are twins where questions and answers both have at least the similarity `threshold`; an answer of up to three words must be
    the same. `questions` (some thousand of the rows to come, or all) tell which shingles are a template's and do not count.
    """

    def __init__(self, threshold: float, questions: Sequence[str] = ()) -> None:
        self._threshold = threshold
        self._band = band_rows(threshold)
        self._template = _template(questions)
        self._buckets = _Buckets(PERMUTATIONS // self._band)
        self._texts = _Texts()
        self._names: list[str] = []

    def __len__(self) -> int:
        return len(self._names)

    def offer(self, name: str, question: str, answer: str) -> Twin | None:
        """The earlier row that this one repeats; where there is none, this one is kept for others to be compared with.

        Raises StoreError where the disk is full.
        """
        row = _Row.of(question, answer)
        bands = self._bands(row)
        for number in self._buckets.find(bands):
            other = self._texts[number]
            similarity = min(self._similarity(row.question, other.question), _jaccard(row.answer, other.answer))
            if similarity >= self._threshold:
                return Twin(self._names[number], similarity, row.whole == other.whole)
        self._buckets.add(bands)
        self._texts.add(row)
        self._names.append(name)
        return None

    def _similarity(self, one: ShingleArray, other: ShingleArray) -> float:
        """Of two questions, the template aside; of two that are all template, as they are."""
        left, right = (np.setdiff1d(shingles, self._template, assume_unique=True) for shingles in (one, other))
        return _jaccard(left, right) if len(left) or len(right) else _jaccard(one, other)

    def _bands(self, row: _Row) -> NDArray[np.uint64]:
        import rensa

        question = np.setdiff1d(row.question, self._template, assume_unique=True)
        tokens = np.concatenate([question if len(question) else row.question, row.answer ^ _ANSWER]).tolist()
        digests = rensa.RMinHash.digest_matrix_from_token_hash_sets([tokens], PERMUTATIONS, SEED).to_rows()
        bands: NDArray[np.uint64] = hash_bands(np.asarray(digests, dtype=np.uint64), self._band)[0]
        return bands


@dataclass(frozen=True, slots=True)
class _Row:
    """A row's hashed shingles, each once, and one hash of all that it says."""

    question: ShingleArray
    answer: ShingleArray
    whole: int

    @classmethod
    def of(cls, question: str, answer: str) -> _Row:
        return cls(_shingles(question), _shingles(answer), hash64(f"{normalise(question)}\n\n{normalise(answer)}"))


class _Buckets:
    """Which rows have a band in common: the latest side by side, the others in sorted blocks of ever larger size."""

    def __init__(self, bands: int) -> None:
        self._recent = np.empty((_RECENT, bands), dtype=np.uint64)
        self._salt = mix(np.arange(bands, dtype=np.uint64))
        self._blocks: list[tuple[NDArray[np.uint64], NDArray[np.int32]]] = []
        self._settled = self._waiting = 0

    def add(self, bands: NDArray[np.uint64]) -> None:
        self._recent[self._waiting] = bands ^ self._salt
        self._waiting += 1
        if self._waiting == _RECENT:
            self._settle()

    def find(self, bands: NDArray[np.uint64]) -> list[int]:
        """Rows that share a band, those that share most first, the earlier first among equals; VERIFIED at most."""
        salted = bands ^ self._salt
        shared = (self._recent[: self._waiting] == salted).sum(axis=1)
        near = np.flatnonzero(shared)
        members = [np.repeat(near, shared[near]) + self._settled, *(self._members(block, salted) for block in self._blocks)]
        rows, counts = np.unique(np.concatenate(members), return_counts=True)
        return [int(row) for row in rows[np.argsort(-counts, kind="stable")][:VERIFIED]]

    def _members(self, block: tuple[NDArray[np.uint64], NDArray[np.int32]], salted: NDArray[np.uint64]) -> IntArray:
        hashes, rows = block
        lows, highs = np.searchsorted(hashes, salted, "left"), np.searchsorted(hashes, salted, "right")
        found = [rows[lows[place] : min(highs[place], lows[place] + BUCKET)] for place in np.flatnonzero(highs > lows)]
        return np.concatenate([*found, rows[:0]]).astype(np.int64)

    def _settle(self) -> None:
        rows = np.repeat(np.arange(self._settled, self._settled + _RECENT, dtype=np.int32), self._recent.shape[1])
        block = _sorted(self._recent.ravel(), rows)
        self._settled, self._waiting = self._settled + _RECENT, 0
        while self._blocks and len(self._blocks[-1][0]) <= len(block[0]):
            hashes, earlier = self._blocks.pop()
            block = _sorted(np.concatenate([hashes, block[0]]), np.concatenate([earlier, block[1]]))
        self._blocks.append(block)


class _Texts:
    """Hashed rows in a temporary file without a name."""

    def __init__(self) -> None:
        self._ends = array("q", [0])
        self._lengths = array("q")
        self._wholes = array("Q")
        try:
            file, path = tempfile.mkstemp()
            os.unlink(path)
        except OSError as error:
            raise store_error(tempfile.gettempdir(), error) from None
        self._file = file
        weakref.finalize(self, os.close, file)

    def add(self, row: _Row) -> None:
        data = np.concatenate([row.question, row.answer]).tobytes()
        try:
            os.pwrite(self._file, data, self._ends[-1])
        except OSError as error:
            raise store_error(tempfile.gettempdir(), error) from None
        self._ends.append(self._ends[-1] + len(data))
        self._lengths.append(len(row.question))
        self._wholes.append(row.whole)

    def __getitem__(self, number: int) -> _Row:
        start, end = self._ends[number], self._ends[number + 1]
        values = np.frombuffer(os.pread(self._file, end - start, start), dtype=np.uint32)
        return _Row(values[: self._lengths[number]], values[self._lengths[number] :], self._wholes[number])


def _shingles(text: str) -> ShingleArray:
    return np.unique(hash_grams(hash_words(text), SHINGLE_WORDS).astype(np.uint32))


def _template(questions: Sequence[str]) -> ShingleArray:
    """Shingles in more than a tenth of the questions (of up to 2,000, evenly spaced), and in more than ten."""
    stride = max(1, len(questions) // _SAMPLE)
    rows = [_shingles(question) for question in itertools.islice(questions, 0, None, stride)]
    found, counts = np.unique(np.concatenate([*rows, np.zeros(0, dtype=np.uint32)]), return_counts=True)
    return found[counts > max(TEMPLATE_ROWS, TEMPLATE_SHARE * len(rows))]


def _sorted(hashes: NDArray[np.uint64], rows: NDArray[np.int32]) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    order = np.argsort(hashes, kind="stable")
    return hashes[order], rows[order]


def _jaccard(one: ShingleArray, other: ShingleArray) -> float:
    shared = len(np.intersect1d(one, other, assume_unique=True))
    total = len(one) + len(other) - shared
    return shared / total if total else 1.0

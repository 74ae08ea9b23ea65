"""Hashes of the validation and test rows, by which a training row that gives one of them away is known without reading them.

Two ways of giving away are looked for. *Runs*: most of the runs of eight words that a held-out row alone has stand in the training
row (n-gram overlap, Brown et al. 2020, arXiv 2005.14165, appendix C). *Paraphrase*: its rare words and all its numbers are there,
and nearly all its other words, in any order, or most of them in their order (runs are evaded by rephrasing, Yang et al. 2023, arXiv
2311.04850). A paraphrase in altogether other words, or another language, is not found.

What several rows have in common tells nothing: a template, an instruction, a passage with many questions. So runs that stand in two
training rows, or in two held-out rows, do not count, unless a held-out row has no others.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from potstill.data.grams import GRAM_WORDS, GramArray, WordArray, edit_distance, hash_grams, hash_words
from potstill.data.ondisk import IntArray
from potstill.errors import StoreError
from potstill.records import Example
from potstill.store.atomic import write_atomic

FORMAT = 1
SHARE = 0.7
"""So much of what a held-out row alone has must stand in a training row; all of it where it is less than ENOUGH runs."""
ENOUGH = 8
SAME_ORDER, ANY_ORDER = 0.7, 0.85
"""Shares of a paraphrase's words: kept in their order (1 − edit distance / words), or kept at all (F1 of the words)."""
LEAST_RARE = 3
"""A question with fewer rare words says nothing that another might not say by chance."""
CANDIDATES = 16
"""So many held-out rows, those with the most rare words in common, are compared word by word."""

Kind = Literal["runs", "paraphrase"]


@dataclass(frozen=True, slots=True)
class Match:
    """A held-out row that a training row gives away: its split, its number there (from 1), how it is known, and to which share."""

    kind: Kind
    split: Literal["validation", "test"]
    row: int
    share: float


@dataclass(frozen=True)
class HeldOut:
    """The held-out rows as sorted arrays of hashes. A *unit* is a row's questions, or one of its answers.

    `grams` (G,) are runs that count, `gram_units` (G,) whose they are, at most 64 a unit; `counted` (U,) how many each unit has.
    `shared` (S,) are runs that do not count. `words` (W,) are the units' words less those of shared runs, unit u's between `ends[u]` and
    `ends[u + 1]`. `rare` (R,) are rare words, `rare_units` (R,) whose they are, `rares` (U,) how many each unit has. `rows` (U,) and
    `in_test` (U,) say which row a unit is of.
    """

    grams: GramArray
    gram_units: IntArray
    counted: IntArray
    shared: GramArray
    words: WordArray
    ends: IntArray
    rare: WordArray
    rare_units: IntArray
    rares: IntArray
    rows: IntArray
    in_test: NDArray[np.bool_]

    def find(self, questions: str, answers: str = "", *, only_test: bool = False) -> Match | None:
        """The held-out row that a row with these questions and answers gives away most plainly; None where there is none.

        `only_test` is for validation rows, which may resemble each other. Answers count where they repeat eight words; a label never does.
        """
        asked = hash_words(questions)
        grams = hash_grams(asked)
        said = hash_words(answers)
        spoken = hash_grams(said) if len(said) >= GRAM_WORDS else grams[:0]
        found = self._by_runs(np.unique(np.concatenate([grams, spoken])), only_test)
        return found or self._by_words(asked[~lies_in(self.shared, grams, len(asked))], only_test)

    def _by_runs(self, grams: GramArray, only_test: bool) -> Match | None:
        units, shared = _tally(grams, self.grams, self.gram_units)
        counted = self.counted[units]
        wanted = np.maximum(np.minimum(ENOUGH, counted), np.ceil(SHARE * counted))
        fits = (shared >= wanted) & (self.in_test[units] | (not only_test))
        if not fits.any():
            return None
        shares = np.where(fits, shared / np.maximum(counted, 1), 0.0)
        return self._match("runs", int(units[shares.argmax()]), float(shares.max()))

    def _by_words(self, words: WordArray, only_test: bool) -> Match | None:
        units, shared = _tally(np.unique(words), self.rare, self.rare_units)
        fits = (shared * 2 >= self.rares[units]) & (shared >= LEAST_RARE) & (self.in_test[units] | (not only_test))
        best = np.argsort(-shared[fits], kind="stable")[:CANDIDATES]
        for unit in units[fits][best]:
            likeness = alike(self.words[self.ends[unit] : self.ends[unit + 1]], words)
            if likeness:
                return self._match("paraphrase", int(unit), likeness)
        return None

    def _match(self, kind: Kind, unit: int, share: float) -> Match:
        return Match(kind, "test" if self.in_test[unit] else "validation", int(self.rows[unit]) + 1, share)

    def save(self, path: Path) -> None:
        """Write the arrays; equal rows give equal bytes. Raises StoreError where the disk is full, read-only or forbidden."""
        with write_atomic(path, "wb") as file:
            np.savez(file, format=np.array(FORMAT), **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> HeldOut:
        """The inverse of `save`. Raises StoreError where the file is missing, damaged, or of another version."""
        try:
            with np.load(path, allow_pickle=False) as file:
                if int(file["format"]) == FORMAT:
                    return cls(**{field.name: file[field.name] for field in fields(cls)})
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise StoreError(f"{path}: cannot be read ({error}); `potstill run` writes it anew once it is deleted") from None
        raise StoreError(f"{path}: was written by another version of Potstill; delete it, and run the same command again")


def questions_of(example: Example) -> str:
    """What the user says in a row."""
    return "\n".join(message.content for message in example.messages if message.role == "user")


def answers_of(example: Example) -> list[str]:
    """What a row answers: its assistant turns as one text, and each of its references."""
    turns = "\n".join(message.content for message in example.messages if message.role == "assistant")
    return [text for text in (turns, *example.reference) if text]


def lies_in(shared: GramArray, grams: GramArray, length: int) -> NDArray[np.bool_]:
    """Which of a text's words, `length` of them, lie in one of the `shared` runs; `grams` are the text's."""
    common = np.flatnonzero(contains(shared, grams))
    steps = np.zeros(length + 1, dtype=np.int64)
    np.add.at(steps, common, 1)
    np.add.at(steps, np.minimum(common + GRAM_WORDS, length), -1)
    return np.asarray(np.cumsum(steps[:-1]) > 0)


def contains(known: NDArray[np.uint64], values: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which of `values` stand in `known`, which is sorted."""
    if not len(known):
        return np.zeros(len(values), dtype=np.bool_)
    places = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.asarray(known[places] == values)


def alike(held_out: WordArray, words: WordArray) -> float:
    """How far `words` paraphrase `held_out`, 0 to 1; 0 where too few words agree, or the numbers differ."""
    total = len(held_out) + len(words)
    if min(len(held_out), len(words)) < GRAM_WORDS or not np.array_equal(
        np.sort(held_out[held_out % 2 == 1]), np.sort(words[words % 2 == 1])
    ):
        return 0.0
    kept = 2 * _common(held_out, words) / total
    if kept >= ANY_ORDER:
        return kept
    if kept < SAME_ORDER:
        return 0.0  # no more can be kept in its order than is kept at all
    ordered = 1 - edit_distance(held_out.tolist(), words.tolist()) / max(len(held_out), len(words))
    return ordered if ordered >= SAME_ORDER else 0.0


def _common(one: WordArray, other: WordArray) -> int:
    """The size of the intersection of two multisets."""
    values, counts = np.unique(one, return_counts=True)
    others, other_counts = np.unique(other, return_counts=True)
    _, here, there = np.intersect1d(values, others, assume_unique=True, return_indices=True)
    return int(np.minimum(counts[here], other_counts[there]).sum())


def _tally(values: NDArray[np.unsignedinteger], keys: NDArray[np.unsignedinteger], units: IntArray) -> tuple[IntArray, IntArray]:
    """Units that own some of `values` (which differ from each other), and how many each owns; `keys` are sorted."""
    lows, highs = np.searchsorted(keys, values, "left"), np.searchsorted(keys, values, "right")
    hit = np.flatnonzero(highs > lows)
    owners = [units[lows[place] : highs[place]] for place in hit]
    return np.unique(np.concatenate(owners) if owners else units[:0], return_counts=True)

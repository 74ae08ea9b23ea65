"""From rows to the hashes of `contamination`: which runs of a held-out row are its own, which of its words are rare."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.data.contamination import ENOUGH, LEAST_RARE, HeldOut, answers_of, lies_in, questions_of
from potstill.data.grams import GRAM_WORDS, GramArray, WordArray, hash_grams, hash_words
from potstill.data.intake import Advance
from potstill.data.ondisk import IntArray
from potstill.records import Example

KEPT_RUNS = 64
"""So many runs of a unit are kept, those with the smallest hashes (a bottom-k sketch, Broder 1997)."""
LONGEST = 2_048
"""Words of a unit that are looked at: its first half as many, and its last."""
COMMON_ROWS = 10
"""A run in more rows than this is a template's (Brown et al. 2020, appendix C). A word in as few is rare in any case."""
RARE_SHARE, RARE_ROWS = 0.01, 1_000
"""A word is rare in up to this share of the rows, and this many."""
RARE_WORDS = 8
"""So many rare words of a unit are kept, the rarest."""


@dataclass(frozen=True)
class _Unit:
    row: int
    in_test: bool
    is_question: bool
    words: WordArray


def index_held_out(train: Iterable[Example], validation: Sequence[Example], test: Sequence[Example], advance: Advance = int) -> HeldOut:
    """The hashes of validation and test; training rows are streamed past them, to know what many rows have in common.

    Memory: about 30 bytes a word of the held-out rows while it works; of what it returns, at most 800 bytes a unit and 4 a word.
    """
    units = list(_units(validation, in_test=False)) + list(_units(test, in_test=True))
    grams, words = (_Vocabulary(units, of) for of in (_grams, _plain_words))
    rows = len(validation) + len(test)
    for example in train:
        texts = _texts(example)
        grams.count(texts)
        words.count(texts)
        rows += 1
        advance(1)
    own = (grams.held_out == 1) & (grams.trained <= 1)
    shared = grams.values[~own]
    common = [lies_in(shared, _grams(unit.words), len(unit.words)) for unit in units]
    counted = [_counted(unit, grams, own, within) for unit, within in zip(units, common, strict=True)]
    remains = [unit.words[~within] if unit.is_question else unit.words[:0] for unit, within in zip(units, common, strict=True)]
    limit = max(COMMON_ROWS, min(RARE_ROWS, int(RARE_SHARE * rows)))
    rare = [_rare(remain, words, limit) for remain in remains]
    keys, key_units = _inverted(counted, np.uint64)
    rare_keys, rare_units = _inverted(rare, np.uint32)
    return HeldOut(
        grams=keys,
        gram_units=key_units,
        counted=np.array([len(found) for found in counted], dtype=np.int64),
        shared=shared,
        words=np.concatenate([*remains, np.zeros(0, dtype=np.uint32)]),
        ends=np.cumsum([0, *map(len, remains)], dtype=np.int64),
        rare=rare_keys,
        rare_units=rare_units,
        rares=np.array([len(found) for found in rare], dtype=np.int64),
        rows=np.array([unit.row for unit in units], dtype=np.int64),
        in_test=np.array([unit.in_test for unit in units], dtype=np.bool_),
    )


class _Vocabulary:
    """The different values of the held-out units, sorted, and in how many held-out and training rows each stands."""

    def __init__(self, units: Sequence[_Unit], of: Callable[[WordArray], NDArray[np.uint64]]) -> None:
        self._of = of
        rows = [
            np.unique(np.concatenate([of(unit.words) for unit in group]))
            for _, group in itertools.groupby(units, key=lambda unit: (unit.in_test, unit.row))
        ]
        self.values, self.held_out = np.unique(np.concatenate([*rows, np.zeros(0, dtype=np.uint64)]), return_counts=True)
        self.trained = np.zeros(len(self.values), dtype=np.int64)

    def count(self, texts: Iterable[WordArray]) -> None:
        """One more training row."""
        if len(self.values):
            found = np.unique(np.concatenate([self._of(text) for text in texts]))
            places = np.minimum(np.searchsorted(self.values, found), len(self.values) - 1)
            self.trained[places[self.values[places] == found]] += 1

    def places(self, values: NDArray[np.uint64]) -> IntArray:
        """Where values that are known to be there stand."""
        return np.searchsorted(self.values, values)


def _units(rows: Iterable[Example], *, in_test: bool) -> Iterator[_Unit]:
    for row, example in enumerate(rows):
        yield _Unit(row, in_test, True, _clipped(hash_words(questions_of(example))))
        yield from (_Unit(row, in_test, False, _clipped(hash_words(text))) for text in answers_of(example))


def _texts(example: Example) -> list[WordArray]:
    return [hash_words(text) for text in (questions_of(example), *answers_of(example))]


def _clipped(words: WordArray) -> WordArray:
    return words if len(words) <= LONGEST else np.concatenate([words[: LONGEST // 2], words[-LONGEST // 2 :]])


def _counted(unit: _Unit, grams: _Vocabulary, own: NDArray[np.bool_], common: NDArray[np.bool_]) -> GramArray:
    """The runs by which a unit is known: its own, and of these, where they are enough, those without a word of a template.

    For a question that has no run of its own, those of few rows. An answer is known by enough runs of its own, or not at all.
    """
    found = _grams(unit.words)
    places = grams.places(found)
    before = np.concatenate([[0], np.cumsum(common)])
    pure = before[len(common) - len(found) + 1 :] == before[: len(found)]
    chosen = np.unique(found[own[places] & pure])
    if len(chosen) < ENOUGH:
        chosen = np.unique(found[own[places]])
    if unit.is_question and not len(chosen):
        chosen = np.unique(found[(grams.held_out[places] <= COMMON_ROWS) & (grams.trained[places] <= COMMON_ROWS)])
    if not unit.is_question and len(chosen) < ENOUGH:
        chosen = chosen[:0]
    return chosen[:KEPT_RUNS]


def _rare(words: WordArray, known: _Vocabulary, limit: int) -> WordArray:
    """The rarest words of a text, no numbers among them; none where they, or the words altogether, are few."""
    found = np.unique(words[words % 2 == 0])
    places = known.places(found.astype(np.uint64))
    rows = known.held_out[places] + known.trained[places]
    rarest = found[np.argsort(rows, kind="stable")][:RARE_WORDS]
    rarest = rarest[: int((rows <= limit).sum())]
    return rarest if len(rarest) >= LEAST_RARE and len(words) >= GRAM_WORDS else rarest[:0]


def _inverted(sets: Sequence[NDArray[np.unsignedinteger]], kind: type) -> tuple[NDArray[np.unsignedinteger], IntArray]:
    values = np.concatenate([*sets, np.zeros(0, dtype=kind)])
    units = np.repeat(np.arange(len(sets)), [len(found) for found in sets]) if sets else np.zeros(0, dtype=np.int64)
    order = np.argsort(values, kind="stable")
    return values[order], units[order]


def _grams(words: WordArray) -> NDArray[np.uint64]:
    return hash_grams(words)


def _plain_words(words: WordArray) -> NDArray[np.uint64]:
    return words.astype(np.uint64)

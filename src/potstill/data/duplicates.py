"""Rows of one split that stand in another too, exactly or nearly: found, listed, and left out where that is asked for."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from potstill.data.intake import Advance, BoolArray, Intake
from potstill.data.near import NearIndex, Shingles, template_shingles
from potstill.data.ondisk import Dataset, IntArray
from potstill.data.text import compared_text, shingles
from potstill.records import Example

EXAMPLES = 50
_SHOWN = 300
"""Characters of a prompt."""
_BATCH = 1_000
_TEMPLATE_SAMPLE = 2_000


@dataclass(frozen=True)
class Part:
    """The rows of one split: some rows of a file that was taken in."""

    split: str
    intake: Intake
    rows: IntArray

    def __len__(self) -> int:
        return len(self.rows)

    @functools.cached_property
    def dataset(self) -> Dataset:
        """The split's rows."""
        return self.intake.rows.select(self.rows)

    def place(self, row: int) -> str:
        """Where the split's n-th row was read."""
        return self.intake.place(int(self.rows[row]))

    def text(self, example: Example) -> str:
        """What is compared of a row of the split."""
        return compared_text(example, with_system=self.intake.with_systems)

    def without(self, unwanted: BoolArray) -> Part:
        """The split less some of its rows."""
        return Part(self.split, self.intake, self.rows[~unwanted])


@dataclass
class Pair:
    """Which rows of `split` stand in `other` too, as masks over the rows of `split`.

    `same_question` marks those that are equal but for their system prompts, where these are compared; they are no duplicates.
    """

    split: str
    other: str
    exact: BoolArray
    near: BoolArray
    same_question: BoolArray
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def either(self) -> BoolArray:
        """Rows that are duplicates of any kind."""
        return self.exact | self.near

    def to_json(self) -> dict[str, Any]:
        """Counts of rows."""
        return {"split": self.split, "other": self.other, "exact": int(self.exact.sum()), "near": int(self.near.sum())}


@dataclass(frozen=True)
class Duplicates:
    """What stands in two splits: a `Pair` each for train and test, validation and test, train and validation."""

    threshold: float
    pairs: tuple[Pair, ...]
    template: Shingles = frozenset()
    unverified: int = 0
    with_systems: bool = False

    def to_json(self) -> dict[str, Any]:
        """The content of `leaks.json`."""
        what = "system prompts and user turns" if self.with_systems else "user turns"
        return {
            "near_duplicate": self.threshold,
            "compared": f"{what}: exactly (case and blanks aside), and by Jaccard similarity of three-word shingles (punctuation aside)",
            "template_shingles_left_out": len(self.template),
            "rows_with_proposals_left_unverified": self.unverified,
            "pairs": [pair.to_json() for pair in self.pairs],
            "examples": [example for pair in self.pairs for example in pair.examples][:EXAMPLES],
        }


def find_duplicates(train: Part, validation: Part, test: Part, *, threshold: float, advance: Advance = int) -> Duplicates:
    """Compare the questions of train with validation's and test's, and validation's with test's.

    A question is the user's turns, with the system prompt where `Intake.comparing_systems` says so. Exact: equal but for case and
    blanks. Near: Jaccard similarity of three-word shingles ≥ `threshold`; shingles of a template that many rows share do not
    count. Validation and test are indexed, train is streamed past them.
    """
    pairs = tuple(_exact(part, other) for part, other in ((validation, test), (train, test), (train, validation)))
    template = template_shingles(_Sample((train, validation, test)))
    indexed = (test, validation)
    index = NearIndex(threshold, functools.lru_cache(maxsize=4096)(functools.partial(_shingles_at, indexed, template)))
    for part in indexed:
        for _, batch in _batches(part, template, advance):
            index.add(batch)
    for part, against in ((validation, pairs[:1]), (train, pairs[1:])):
        for start, batch in _batches(part, template, advance):
            for row, similar in enumerate(index.search(batch), start):
                _note_near(row, similar, part, indexed, against)
    return Duplicates(threshold, pairs, template, index.unverified, train.intake.with_systems)


def _exact(part: Part, other: Part) -> Pair:
    here, there = part.intake.contents[part.rows], other.intake.contents[other.rows]
    mask = np.isin(here, there)
    asked = np.isin(part.intake.questions[part.rows], other.intake.questions[other.rows])
    pair = Pair(part.split, other.split, exact=mask, near=np.zeros_like(mask), same_question=asked & ~mask)
    for row in np.flatnonzero(mask)[:EXAMPLES]:
        pair.examples.append({"kind": "exact", **_example(part, int(row), other, int(np.flatnonzero(there == here[row])[0]), 1.0)})
    return pair


def _note_near(row: int, similar: Sequence[tuple[int, float]], part: Part, indexed: tuple[Part, Part], against: Sequence[Pair]) -> None:
    test, validation = indexed
    for pair in against:
        if pair.exact[row]:
            continue
        first, last = (0, len(test)) if pair.other == test.split else (len(test), len(test) + len(validation))
        best = max((found for found in similar if first <= found[0] < last), key=lambda found: found[1], default=None)
        if best is None:
            continue
        pair.near[row] = True
        if len(pair.examples) < EXAMPLES:
            other = test if pair.other == test.split else validation
            pair.examples.append({"kind": "near", **_example(part, row, other, best[0] - first, best[1])})


def _example(part: Part, row: int, other: Part, other_row: int, similarity: float) -> dict[str, Any]:
    return {
        "split": part.split,
        "row": row,
        "id": part.dataset[row].id,
        "place": part.place(row),
        "other_split": other.split,
        "other_id": other.dataset[other_row].id,
        "other_place": other.place(other_row),
        "similarity": round(similarity, 4),
        "prompt": part.text(part.dataset[row])[:_SHOWN],
        "other_prompt": other.text(other.dataset[other_row])[:_SHOWN],
    }


@dataclass(frozen=True)
class _Sample:
    """The shingles of about 2,000 rows, evenly spaced over all splits; read anew each time they are gone through."""

    parts: Sequence[Part]

    def __iter__(self) -> Iterator[Shingles]:
        stride = max(1, sum(map(len, self.parts)) // _TEMPLATE_SAMPLE)
        position = 0
        for part in self.parts:
            yield from (shingles(part.text(part.dataset[row])) for row in range(-position % stride, len(part), stride))
            position += len(part)


def _shingles_at(indexed: tuple[Part, Part], template: Shingles, key: int) -> Shingles:
    part, row = (indexed[0], key) if key < len(indexed[0]) else (indexed[1], key - len(indexed[0]))
    return shingles(part.text(part.dataset[row])) - template


def _batches(part: Part, template: Shingles, advance: Advance) -> Iterator[tuple[int, list[Shingles]]]:
    rows = iter(part.dataset)
    start = 0
    while batch := [shingles(part.text(example)) - template for example in itertools.islice(rows, _BATCH)]:
        yield start, batch
        start += len(batch)
        advance(len(batch))

"""What of the test is given away by what is learnt: exactly, nearly, in other words; counted, with examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from potstill.data.duplicates import Pair, Part
from potstill.data.grams import GRAM_WORDS
from potstill.data.intake import Advance, BoolArray
from potstill.data.near import NearIndex, Shingles
from potstill.data.paraphrase import ParaphraseIndex
from potstill.data.text import normalise, shingles, words_of
from potstill.records import Example

Kind = Literal["exact", "near", "paraphrase"]
Named = tuple[str, str]
"""A text, after the id of its row."""

KINDS: tuple[Kind, ...] = ("exact", "near", "paraphrase")
EXAMPLES = 10
"""So many of each kind are shown."""
CHARACTERS = 300
"""So much of a text is shown."""
KNOWN = 20_000
"""So many of the learnt texts, evenly spaced, tell which words are common."""
SOUGHT, HELD = 100_000, 10_000
"""Among so many training rows paraphrases are looked for, of so many test texts, both evenly spaced: for texts of 50 words 0.25 ms and
10 kB each."""
_BATCH = 1_000


@dataclass
class Leaks:
    """Learnt texts that give test texts away, each counted once, by the plainest kind; `left_out` counts those that were not learnt.

    `learnt` and `test` say how many texts were compared, `sought` and `held` for how many of these paraphrases were looked for.
    """

    learnt: int = 0
    test: int = 0
    sought: int = 0
    held: int = 0
    counts: Counter[Kind] = field(default_factory=Counter)
    left_out: Counter[Kind] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, kind: Kind, train: Named, test: Named, similarity: float) -> None:
        """One more that is learnt."""
        self.counts[kind] += 1
        self.show(kind, train, test, similarity)

    def show(self, kind: Kind, train: Named, test: Named, similarity: float, *, left_out: bool = False) -> None:
        """An example, where there are not enough of its kind."""
        if sum(example["kind"] == kind and example["left_out"] == left_out for example in self.examples) < EXAMPLES:
            texts = {"train": train[1][:CHARACTERS], "test": test[1][:CHARACTERS]}
            ids = {"train_id": train[0], "test_id": test[0]}
            self.examples.append({"kind": kind, **texts, "similarity": round(similarity, 4), **ids, "left_out": left_out})

    def to_json(self) -> dict[str, Any]:
        """Counts by kind, and examples: those that are learnt first, the plainest kind first."""
        shown = sorted(self.examples, key=lambda example: (example["left_out"], KINDS.index(example["kind"])))
        return {
            "compared": {"learnt": self.learnt, "test": self.test, "for_paraphrases": [self.sought, self.held]},
            **{kind: self.counts[kind] for kind in KINDS},
            "left_out": {kind: self.left_out[kind] for kind in KINDS},
            "examples": shown,
        }


def leaks_between(train: Part, test: Part, pair: Pair, *, unwanted: BoolArray, template: Shingles, advance: Advance = int) -> Leaks:
    """Leaks between the questions of two splits whose copies are known already (`pair`), of which `unwanted` training rows are left out.

    Paraphrases are looked for among the other training rows that stay (at most SOUGHT of them, in HELD test rows).
    """
    found = Leaks(learnt=int((~unwanted).sum()), test=len(test))
    copies: tuple[tuple[Kind, BoolArray], ...] = (("exact", pair.exact), ("near", pair.near))
    for kind, mask in copies:
        found.counts[kind], found.left_out[kind] = int((mask & ~unwanted).sum()), int((mask & unwanted).sum())
    for copy in pair.examples:
        texts = (copy["id"], copy["prompt"]), (copy["other_id"], copy["other_prompt"])
        found.show(copy["kind"], *texts, copy["similarity"], left_out=bool(unwanted[copy["row"]]))
    rows = np.flatnonzero(~unwanted & ~pair.either)
    rows = rows[:: len(rows) // SOUGHT + 1]
    questions = [(example.id, test.text(example)) for example in test.dataset[:: len(test) // HELD + 1]]
    found.sought, found.held = len(rows), len(questions)
    known = (train.text(example) for example in train.dataset.select(rows[:: len(rows) // KNOWN + 1]))
    index = ParaphraseIndex([text for _, text in questions], known, template)
    for example in train.dataset.select(rows):
        text = train.text(example)
        if (match := index.search(text)) is not None:
            found.add("paraphrase", (example.id, text), questions[match[0]], match[1])
        advance(1)
    return found


def find_leaks(
    rows: Sequence[Example], texts_of: Callable[[Example], Iterable[str]], test: Sequence[Named], near: float, advance: Advance = int
) -> Leaks:
    """Which texts of the learnt `rows` give one of the `test` texts away.

    Exactly: but for case and blanks. Nearly: Jaccard similarity of three-word shingles at least `near`. In other words: `paraphrase`.
    Texts of fewer than eight words, such as labels, are alike by chance and are not compared.
    """
    held = [named for named in test if _is_long(named)]
    found = Leaks(test=len(held), held=len(held[:: len(held) // HELD + 1]))
    if not held:
        return found

    def texts(some: Sequence[Example]) -> Iterator[Named]:
        return filter(_is_long, ((row.id, text) for row in some for text in texts_of(row)))

    exact = {normalise(text): number for number, (_, text) in reversed(list(enumerate(held)))}
    copies = NearIndex(near, lambda number: shingles(held[number][1]))
    copies.add([shingles(text) for _, text in held])
    step = len(held) // HELD + 1
    paraphrases = ParaphraseIndex([text for _, text in held[::step]], (text for _, text in texts(rows[:: len(rows) // KNOWN + 1])))
    for start in range(0, len(rows), _BATCH):
        batch = list(texts(rows[start : start + _BATCH]))
        for named, similar in zip(batch, copies.search([shingles(text) for _, text in batch]), strict=True):
            match = _plainest(exact.get(normalise(named[1])), similar) or _paraphrased(paraphrases, named[1], step)
            if match is not None:
                found.add(match[0], named, held[match[1]], match[2])
        found.learnt, found.sought = found.learnt + len(batch), found.sought + len(batch)
        advance(min(_BATCH, len(rows) - start))
    return found


def _plainest(exact: int | None, similar: Sequence[tuple[int, float]]) -> tuple[Kind, int, float] | None:
    if exact is not None:
        return ("exact", exact, 1.0)
    if similar:
        number, likeness = max(similar, key=lambda found: found[1])
        return ("near", number, likeness)
    return None


def _paraphrased(index: ParaphraseIndex, text: str, step: int) -> tuple[Kind, int, float] | None:
    match = index.search(text)
    return None if match is None else ("paraphrase", match[0] * step, match[1])


def _is_long(named: Named) -> bool:
    return len(words_of(named[1])) >= GRAM_WORDS

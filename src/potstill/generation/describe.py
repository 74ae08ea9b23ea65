"""What a set of rows is like: counts by label, tag, length and language, and how varied its texts are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from potstill.generation.balance import kinds
from potstill.records import Example
from potstill.store.atomic import fingerprint
from potstill.tasks.base import Task

SAMPLE = 1_000
"""Languages and diversity are taken on so many rows at most."""
_BLEU_ROWS, _BLEU_OTHERS = 100, 30
_MOST_KINDS = 50


class Description:
    """Counts rows as they pass by; `to_json` says what came of it."""

    def __init__(self, task: Task, expected: int) -> None:
        self._kinds = kinds(task)
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in self._kinds}
        self._every = max(1, -(-expected // SAMPLE))
        self._rows = 0
        self._sample: list[str] = []

    def add(self, row: Example) -> None:
        """One more row."""
        sampled = self._rows % self._every == 0
        self._rows += 1
        for name, kind_of in self._kinds.items():
            if name != "language" or sampled:
                self._counts[name][kind_of(row)] += 1
        if sampled:
            self._sample.append(row.messages[-1].content)

    def to_json(self) -> dict[str, Any]:
        """Rows, the largest kinds with their counts (languages: of the sample), diversity of the answers."""
        counted = {name: dict(counts.most_common(_MOST_KINDS)) for name, counts in self._counts.items()}
        return {"rows": self._rows, **counted, "diversity": diversity(self._sample)}


def diversity(texts: Sequence[str]) -> dict[str, float | int | None]:
    """How varied texts are: distinct-1 and distinct-2 (Li et al. 2016, arXiv 1510.03055), self-BLEU (Zhu et al. 2018, arXiv 1802.01886).

    `distinct_n` is the share of different runs of n words among all; `self_bleu` (0 to 100; lower is more varied) the mean BLEU of a
    text against others, on a sample. None where there is too little text.
    """
    words = [text.lower().split() for text in texts]
    return {"texts": len(texts), "distinct_1": _distinct(words, 1), "distinct_2": _distinct(words, 2), "self_bleu": _self_bleu(texts)}


def _distinct(words: Iterable[Sequence[str]], length: int) -> float | None:
    runs = [tuple(some[start : start + length]) for some in words for start in range(len(some) - length + 1)]
    return len(set(runs)) / len(runs) if runs else None


def _self_bleu(texts: Sequence[str]) -> float | None:
    from sacrebleu.metrics.bleu import BLEU

    drawn = sorted(enumerate(texts), key=lambda item: fingerprint(["self-bleu", *item]))[:_BLEU_ROWS]
    if len(drawn) < 2:
        return None
    metric = BLEU(effective_order=True)
    scores: list[float] = []
    for place, (_, text) in enumerate(drawn):
        others = [drawn[(place + step) % len(drawn)][1] for step in range(1, min(_BLEU_OTHERS, len(drawn) - 1) + 1)]
        scores.append(float(metric.sentence_score(text, others).score))
    return sum(scores) / len(scores)

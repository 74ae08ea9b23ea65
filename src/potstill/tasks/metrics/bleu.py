"""BLEU (Papineni et al. 2002) of a corpus, as sacrebleu computes it with its defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from potstill.tasks.metrics.base import FloatArray, Prediction, Unit
from potstill.tasks.metrics.sacre import corpus_statistics


@dataclass(frozen=True, slots=True)
class Bleu:
    """Corpus BLEU in points, 0 to 100: mixed case, 13a tokens, 4-grams, exponential smoothing (`c:mixed|e:no|tok:13a|s:exp`)."""

    name: str = "bleu"
    title: str = "BLEU"
    higher_is_better: bool = True
    unit: Unit = "points"

    def statistics(self, predictions: Sequence[Prediction]) -> FloatArray:
        """(n, 10): words of the answer, words of the closest reference, matched 1- to 4-grams, 1- to 4-grams of the answer."""
        return corpus_statistics(self.name, _sacrebleu(), predictions)

    def value(self, totals: FloatArray) -> FloatArray:
        """(...): brevity penalty times the geometric mean of the four precisions.

        The k-th order without a match counts as 2⁻ᵏ matches (Chen & Cherry 2014, method 3). 0 where no word matches, or
        where no answer is four words long.
        """
        answer, reference = totals[..., 0], totals[..., 1]
        matched, found = totals[..., 2:6], totals[..., 6:10]
        defined = (matched > 0).any(axis=-1) & (found > 0).all(axis=-1)
        smoothed = np.where(matched == 0, 0.5 ** np.cumsum(matched == 0, axis=-1), matched)
        precision = smoothed / np.maximum(found, 1.0)
        shortfall = np.maximum(reference / np.maximum(answer, 1.0) - 1.0, 0.0)
        score = 100.0 * np.exp(np.log(precision).mean(axis=-1) - shortfall)
        return np.where(defined, score, 0.0)


def bleu(labels: Sequence[str] = ()) -> Bleu:
    """Corpus BLEU in points."""
    del labels
    return Bleu()


@cache
def _sacrebleu() -> Any:
    from sacrebleu.metrics import BLEU

    return BLEU()

"""chrF (Popović 2015) of a corpus, as sacrebleu computes it with its defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from potstill.tasks.metrics.base import FloatArray, Prediction, Unit
from potstill.tasks.metrics.sacre import corpus_statistics

_BETA_SQUARED = 4.0


@dataclass(frozen=True, slots=True)
class Chrf:
    """Corpus chrF2 in points, 0 to 100: 1- to 6-grams of characters, mixed case, without spaces (`c:mixed|e:yes|nc:6|nw:0|s:no`)."""

    name: str = "chrf"
    title: str = "chrF"
    higher_is_better: bool = True
    unit: Unit = "points"

    def statistics(self, predictions: Sequence[Prediction]) -> FloatArray:
        """(n, 18): for each order n-grams of the answer, of the best reference, and common ones."""
        return corpus_statistics(self.name, _sacrebleu(), predictions)

    def value(self, totals: FloatArray) -> FloatArray:
        """(...): F₂ of the mean precision and mean recall over the orders that both sides have; 0 where they share nothing."""
        orders = totals.reshape(*totals.shape[:-1], 6, 3)
        found, wanted, common = orders[..., 0], orders[..., 1], orders[..., 2]
        both = (found > 0) & (wanted > 0)
        counted = np.maximum(both.sum(axis=-1), 1)
        precision = np.where(both, common / np.maximum(found, 1.0), 0.0).sum(axis=-1) / counted
        recall = np.where(both, common / np.maximum(wanted, 1.0), 0.0).sum(axis=-1) / counted
        weighted = _BETA_SQUARED * precision + recall
        score = 100.0 * (1.0 + _BETA_SQUARED) * precision * recall / np.where(weighted > 0, weighted, 1.0)
        return np.where(weighted > 0, score, 0.0)


def chrf(labels: Sequence[str] = ()) -> Chrf:
    """Corpus chrF2 in points."""
    del labels
    return Chrf()


@cache
def _sacrebleu() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()

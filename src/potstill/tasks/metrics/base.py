"""What a metric is: additive statistics a row, and a value of their sums. So one bootstrap serves every metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prediction:
    """One scored question: the parsed answer (None: unparsable, which is wrong), and what is acceptable."""

    answer: str | None
    references: tuple[str, ...]


class Metric(Protocol):
    """A figure over rows.

    `statistics` gives an (n, s) array that is additive over rows; `value` turns sums of it, (..., s), into figures, (...).
    A mean has s = 2: sum and count. Corpus metrics (BLEU, macro-F1) fit as well, and bootstrap exactly.
    """

    name: str
    title: str
    higher_is_better: bool

    def statistics(self, predictions: Sequence[Prediction]) -> FloatArray:
        """(n, s) additive statistics of n predictions."""
        ...

    def value(self, totals: FloatArray) -> FloatArray:
        """Figures (...) of summed statistics (..., s)."""
        ...

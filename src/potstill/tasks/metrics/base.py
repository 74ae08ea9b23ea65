"""What a metric is: additive statistics a row, and a value of their sums. So one bootstrap serves every metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from potstill.errors import DataError

FloatArray = NDArray[np.float64]
Unit = Literal["share", "points"]
"""`share`: 0 to 1. `points`: 0 to 100, as the field reports BLEU and chrF."""


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

    @property
    def name(self) -> str:
        """What specs and reports call it."""
        ...

    @property
    def title(self) -> str:
        """What people call it."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Which way is up."""
        ...

    @property
    def unit(self) -> Unit:
        """The scale of its figures."""
        ...

    def statistics(self, predictions: Sequence[Prediction]) -> FloatArray:
        """(n, s) additive statistics of n predictions. Raises DataError for none at all, or for one without references."""
        ...

    def value(self, totals: FloatArray) -> FloatArray:
        """Figures (...) of summed statistics (..., s)."""
        ...


def require_scorable(name: str, predictions: Sequence[Prediction]) -> None:
    """Raises DataError where metric `name` has nothing to score, or nothing to score it against."""
    if not predictions:
        raise DataError(f"{name}: there are no predictions to score")
    for number, prediction in enumerate(predictions, start=1):
        if not prediction.references:
            raise DataError(
                f"{name} compares with a reference, but prediction {number} of {len(predictions)} has none;"
                " add `reference` to the row, or leave the row out of the score"
            )


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean over rows of a similarity in 0..1, each row's the best over its references; unparsable answers score 0.

    `similarity` takes the answer and one reference.
    """

    name: str
    title: str
    similarity: Callable[[str, str], float]
    higher_is_better: bool = True
    unit: Unit = "share"

    def rows(self, predictions: Sequence[Prediction]) -> FloatArray:
        """(n,) each row's own score."""
        require_scorable(self.name, predictions)
        return np.array([self._row(prediction) for prediction in predictions], dtype=np.float64)

    def statistics(self, predictions: Sequence[Prediction]) -> FloatArray:
        """(n, 2): score and count."""
        rows = self.rows(predictions)
        return np.stack([rows, np.ones_like(rows)], axis=1)

    def value(self, totals: FloatArray) -> FloatArray:
        """(...): sum over count."""
        figures: FloatArray = totals[..., 0] / totals[..., 1]
        return figures

    def _row(self, prediction: Prediction) -> float:
        if prediction.answer is None:
            return 0.0
        return max(self.similarity(prediction.answer, reference) for reference in prediction.references)

"""Macro-F1: the mean of the labels' F1, so that a rare label counts as much as a common one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from potstill.errors import SpecError
from potstill.tasks.metrics.base import FloatArray, Prediction, Unit, require_scorable


@dataclass(frozen=True, slots=True)
class MacroF1:
    """Mean F1 over the labels that occur, among the references or the answers; a share, 0 to 1.

    As scikit-learn's `f1_score(average="macro", zero_division=nan)`: a label of the set that is neither wanted nor answered in
    the scored rows has no F1 and is left out of the mean. An unparsable answer, or one outside the set, misses its row's label
    and is no answer for another. Of several references the answered one is the row's label, else the first. A reference outside
    the set (no training row had it) can only be missed: all such references together count as one label more.
    """

    labels: tuple[str, ...]
    name: str = "macro_f1"
    title: str = "Macro-F1"
    higher_is_better: bool = True
    unit: Unit = "share"
    _places: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", {label: place for place, label in enumerate(self.labels)})

    def statistics(self, predictions: Sequence[Prediction]) -> FloatArray:
        """(n, 3 × (labels + 1)): true positives, false positives, false negatives of each label, and of those outside the set."""
        require_scorable(self.name, predictions)
        outside = len(self.labels)
        counts = np.zeros((len(predictions), 3, outside + 1))
        for row, prediction in zip(counts, predictions, strict=True):
            answer = prediction.answer
            if answer is not None and answer in prediction.references:
                row[0, self._places.get(answer, outside)] = 1
                continue
            row[2, self._places.get(prediction.references[0], outside)] = 1
            if answer is not None and answer in self._places:
                row[1, self._places[answer]] = 1
        return counts.reshape(len(predictions), -1)

    def value(self, totals: FloatArray) -> FloatArray:
        """(...): the mean of 2tp / (2tp + fp + fn) over the labels that occur."""
        counts = totals.reshape(*totals.shape[:-1], 3, len(self.labels) + 1)
        hits = 2.0 * counts[..., 0, :]
        weight = hits + counts[..., 1, :] + counts[..., 2, :]
        f1 = np.where(weight > 0, hits / np.where(weight > 0, weight, 1.0), 0.0)
        figures: FloatArray = f1.sum(axis=-1) / (weight > 0).sum(axis=-1)
        return figures


def macro_f1(labels: Sequence[str] = ()) -> MacroF1:
    """Macro-F1 over `labels`. Raises SpecError where there are none."""
    if not labels:
        raise SpecError("the metric macro_f1 needs a label set, which only nli tasks have; take accuracy or token_f1")
    return MacroF1(tuple(labels))

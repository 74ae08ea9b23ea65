"""Macro-F1: the mean of the labels' F1, so that a rare label counts as much as a common one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from potstill.errors import DataError, SpecError
from potstill.tasks.metrics.base import FloatArray, Prediction, Unit, require_scorable


@dataclass(frozen=True, slots=True)
class MacroF1:
    """Mean F1 over the labels that occur, among the references or the answers; a share, 0 to 1.

    As scikit-learn's `f1_score(labels=..., average="macro", zero_division=nan)`: a label of the set that is neither wanted nor
    answered in the scored rows has no F1 and is left out of the mean. An unparsable answer, or one outside the set, misses its
    row's label and is no answer for another. Of several references the answered one is the row's label, else the first.
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
        """(n, 3 × labels): true positives, false positives, false negatives of each label.

        Raises DataError for a reference outside the label set.
        """
        require_scorable(self.name, predictions)
        counts = np.zeros((len(predictions), 3, len(self.labels)))
        for row, prediction in zip(counts, predictions, strict=True):
            answered = prediction.answer is not None and prediction.answer in prediction.references
            wanted = self._place(prediction.answer if answered and prediction.answer else prediction.references[0])
            found = self._places.get(prediction.answer) if prediction.answer is not None else None
            if found == wanted:
                row[0, wanted] = 1
                continue
            row[2, wanted] = 1
            if found is not None:
                row[1, found] = 1
        return counts.reshape(len(predictions), -1)

    def value(self, totals: FloatArray) -> FloatArray:
        """(...): the mean of 2tp / (2tp + fp + fn) over the labels that occur."""
        counts = totals.reshape(*totals.shape[:-1], 3, len(self.labels))
        hits = 2.0 * counts[..., 0, :]
        weight = hits + counts[..., 1, :] + counts[..., 2, :]
        f1 = np.where(weight > 0, hits / np.where(weight > 0, weight, 1.0), 0.0)
        figures: FloatArray = f1.sum(axis=-1) / (weight > 0).sum(axis=-1)
        return figures

    def _place(self, label: str) -> int:
        if label not in self._places:
            allowed = ", ".join(self.labels[:10]) + (", ..." if len(self.labels) > 10 else "")
            raise DataError(f'{self.name}: the reference "{label}" is not one of the {len(self.labels)} labels ({allowed})')
        return self._places[label]


def macro_f1(labels: Sequence[str] = ()) -> MacroF1:
    """Macro-F1 over `labels`. Raises SpecError where there are none."""
    if not labels:
        raise SpecError("the metric macro_f1 needs a label set, which only nli tasks have; take accuracy or token_f1")
    return MacroF1(tuple(labels))

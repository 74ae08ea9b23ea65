"""Which label was answered for which: counts of a closed label set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from potstill.evaluation.sums import IntArray
from potstill.tasks.metrics.base import Prediction

MOST_LABELS = 200
"""A matrix of more labels is neither read nor drawn by anybody; slices by label tell of them one by one."""


@dataclass(frozen=True, slots=True)
class Confusion:
    """`counts` (L, L): reference label i answered as label j; `unparsable` (L,): without a label in the answer."""

    labels: tuple[str, ...]
    counts: IntArray
    unparsable: IntArray

    def to_json(self) -> dict[str, Any]:
        """The matrix as `scores.json` holds it."""
        return {"labels": list(self.labels), "counts": self.counts.tolist(), "unparsable": self.unparsable.tolist()}


def confuse(labels: Sequence[str], predictions: Sequence[Prediction]) -> Confusion:
    """The matrix of n predictions. Of several references the answered one is the row's label, else the first.

    Rows whose label is outside the set are left out: no answer can be right there, and no row of the matrix is theirs.
    """
    places = {label: place for place, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels) + 1), dtype=np.int64)
    for (answer, references), rows in Counter((one.answer, one.references) for one in predictions).items():
        label = answer if answer is not None and answer in references else references[0]
        if label in places:
            counts[places[label], places.get(answer or "", len(labels))] += rows
    return Confusion(tuple(labels), counts[:, :-1], counts[:, -1])


def confuse_systems(labels: Sequence[str], predictions: Mapping[str, Sequence[Prediction]]) -> dict[str, Confusion]:
    """Each system's matrix; none where there is no closed label set, or too large a one."""
    if not 0 < len(labels) <= MOST_LABELS:
        return {}
    return {system: confuse(labels, given) for system, given in predictions.items()}

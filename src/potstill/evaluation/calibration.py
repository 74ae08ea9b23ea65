"""Whether a system is right as often as it says: expected calibration error, and the bins that it is made of.

Source: Naeini et al. 2015, AAAI ("Obtaining Well Calibrated Probabilities Using Bayesian Binning"), eq. for ECE, with bins of equal width;
Guo et al. 2017, arXiv 1706.04599, §2. The error of a perfectly calibrated system is above zero in any sample, the more so the fewer rows
there are: it is an absolute value. Compare systems by it on the same rows, and do not read it as a distance to nought.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from potstill.evaluation.compare import score_to_json
from potstill.evaluation.intervals import percentile_interval
from potstill.evaluation.resampling import Bootstrap, Column, Study
from potstill.evaluation.sums import FloatArray, IntArray
from potstill.records import Score

BINS = 10

Probabilities = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows whose confidence is above `low` and at most `high`: how many, their mean confidence, and the share that is right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """The expected calibration error, and the bins that hold a row."""

    ece: Score
    bins: list[Bin]

    def to_json(self) -> dict[str, Any]:
        """The calibration as `scores.json` holds it."""
        bins = [{"low": b.low, "high": b.high, "n": b.n, "confidence": b.confidence, "accuracy": b.accuracy} for b in self.bins]
        return {"ece": score_to_json(self.ece), "bins": bins}


@dataclass(frozen=True, slots=True)
class Stated:
    """What a system said of n rows: its `confidence` (n,) in the answer, and whether that is `right` (n,), 1 or 0.

    The confidence is not a number where it stated none.
    """

    confidence: FloatArray
    right: FloatArray


def confidence_of(answer: str | None, probabilities: Probabilities | None) -> float:
    """The probability of the answer, or the largest one where the answer is none of the labels; not a number without probabilities."""
    if not probabilities:
        return float("nan")
    return probabilities.get(answer or "", max(probabilities.values()))


def calibration(stated: Mapping[str, Stated], clusters: IntArray, settings: Bootstrap) -> Study[dict[str, Calibration]]:
    """The calibration of each system that stated a confidence, on the rows where it did; rows of a cluster are drawn together."""
    told = {system: one for system, one in stated.items() if np.isfinite(one.confidence).any()}
    columns = [_column(one) for one in told.values()]

    def conclude(draws: list[FloatArray]) -> dict[str, Calibration]:
        return {
            system: Calibration(_score(column, figures, one, clusters, settings), _bins(one))
            for (system, one), column, figures in zip(told.items(), columns, draws, strict=True)
        }

    return Study(columns, conclude)


def _column(stated: Stated) -> Column:
    """Σ over bins of |Σ (confidence − right)| / n is the error, so each bin's own sum is the statistic."""
    rows = np.flatnonzero(np.isfinite(stated.confidence))
    statistics = np.zeros((len(rows), BINS + 1))
    statistics[np.arange(len(rows)), _places(stated.confidence[rows])] = stated.confidence[rows] - stated.right[rows]
    statistics[:, BINS] = 1.0
    codes = np.full(len(stated.confidence), -1, dtype=np.int64)
    codes[rows] = np.arange(len(rows))
    return Column(statistics, _error, codes)


def _error(totals: FloatArray) -> FloatArray:
    found: FloatArray = np.abs(totals[..., :BINS]).sum(axis=-1) / totals[..., BINS]
    return found


def _score(column: Column, draws: FloatArray, stated: Stated, clusters: IntArray, settings: Bootstrap) -> Score:
    rows = np.isfinite(stated.confidence)
    return Score("ece", column.figure(), int(rows.sum()), percentile_interval(draws, len(np.unique(clusters[rows])), settings))


def _bins(stated: Stated) -> list[Bin]:
    rows = np.isfinite(stated.confidence)
    confidence, right = stated.confidence[rows], stated.right[rows]
    places = _places(confidence)
    return [
        Bin(place / BINS, (place + 1) / BINS, int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean()))
        for place in range(BINS)
        if (inside := places == place).any()
    ]


def _places(confidence: FloatArray) -> IntArray:
    """Bin k holds what is above k / BINS and at most (k + 1) / BINS; the first one holds 0 as well."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)

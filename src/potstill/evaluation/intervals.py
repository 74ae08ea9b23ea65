"""Paired bootstrap intervals for additive metrics: one set of draws serves every system, so differences and ratios are paired.

A metric is a value of sums of additive row statistics, so a resample is a vector of weights (how often each row was drawn), and
its figure is `value(weights @ statistics)`. Where rows have groups, whole groups are drawn (cluster bootstrap).

Sources: Efron & Tibshirani 1993, An Introduction to the Bootstrap, §6 (draws), §13 (percentile interval); Davison & Hinkley 1997,
Bootstrap Methods and their Application, §3.8 (clusters); Koehn 2004 (paired resampling of systems' scores); Hesterberg 2015, What
Teachers Should Know about the Bootstrap, arXiv 1411.5279 (expanded percentiles).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from potstill.records import Interval

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

CHUNK_CELLS = 2**18
"""Weights in memory at once: 2 MB, which a core's second-level cache holds (2**22 is three times slower at 100,000 rows)."""

FEWEST_UNITS = 10
"""With fewer rows or groups no percentile is far enough out: resamples cannot reach beyond the units' own extremes."""
FEW_UNITS = 30
"""With fewer, skewed figures are still covered too rarely (a 95 % interval 90 to 93 times in 100): a reader should be told."""
_GRID = 200_001


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are made: `resamples` draws from `seed`, cut at the tails beyond `confidence`."""

    resamples: int = 10_000
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Column:
    """One figure to resample: additive statistics (n, s) of its rows, and the figures (...) of sums (..., s) of them."""

    statistics: FloatArray
    value: Callable[[FloatArray], FloatArray]

    def figure(self) -> float:
        """The figure over all rows as they are; not a number where it is undefined."""
        return float(_quiet(self.value, self.statistics.sum(axis=0)))


def cluster_rows(groups: Sequence[str | None]) -> IntArray:
    """The cluster (0, 1, ...) of each row, in order of appearance: rows of one group share it, a row without group has its own."""
    found: dict[str | int, int] = {}
    return np.array([found.setdefault(index if group is None else group, len(found)) for index, group in enumerate(groups)], dtype=np.int64)


def resample_figures(columns: Sequence[Column], clusters: IntArray, settings: Bootstrap, *, chunk_cells: int = CHUNK_CELLS) -> FloatArray:
    """Figures (resamples, columns) of rows drawn with replacement; a row of the result comes from one draw, for all columns.

    `clusters` (n,) says which rows are drawn together. Not a number where a figure is undefined in a resample. Memory does not grow with
    `resamples` times n, and the result does not depend on `chunk_cells`.
    """
    units = int(clusters.max()) + 1
    sums = [_sum_by(clusters, units, column.statistics) for column in columns]
    figures = np.empty((settings.resamples, len(columns)))
    start = 0
    for weights in _draw_weights(units, settings, max(1, chunk_cells // units)):
        end = start + len(weights)
        for index, (column, unit_sums) in enumerate(zip(columns, sums, strict=True)):
            # One product a column, not one for all: equal columns then round equally, so a system over itself is exactly 1.
            figures[start:end, index] = _quiet(column.value, weights @ unit_sums)
        start = end
    return figures


def percentile_interval(figures: FloatArray, units: int, settings: Bootstrap) -> Interval | None:
    """The expanded percentile interval of figures (resamples,) that were drawn from so many `units` (rows, or groups of rows).

    A resample without a defined figure counts as lying beyond either end, so that it can only widen the interval. None where
    that leaves an end open, and for fewer than FEWEST_UNITS units. Source: Efron & Tibshirani 1993, eq. 13.5, with `tail`.
    """
    if units < FEWEST_UNITS:
        return None
    beyond, defined = tail(units, settings.confidence), np.isfinite(figures)
    with np.errstate(invalid="ignore"):
        low = float(np.quantile(np.where(defined, figures, -np.inf), beyond))
        high = float(np.quantile(np.where(defined, figures, np.inf), 1.0 - beyond))
    return Interval(low, high, settings.confidence, settings.resamples) if np.isfinite([low, high]).all() else None


def tail(units: int, confidence: float) -> float:
    """The share of resamples beyond each end: Φ(−√(G/(G−1)) · t), t being Student's quantile at `confidence` with G−1 degrees.

    Plain percentiles, (1 − confidence)/2, are too near for few units: they forget that the spread is estimated too (t, not z), and that
    resamples spread less than samples do. Source: Hesterberg 2015.
    """
    t = student_quantile((1.0 + confidence) / 2.0, units - 1)
    return NormalDist().cdf(-sqrt(units / (units - 1)) * t)


@lru_cache(maxsize=256)
def student_quantile(share: float, degrees: float) -> float:
    """The quantile of Student's t distribution for a share from 0.5 on, to three digits for one degree of freedom or more, whole or not.

    With t = √degrees · tan θ the density is that of cosᵈ⁻¹ θ, which is smooth and ends at a right angle: summed up on a grid.
    """
    theta = np.linspace(0.0, np.pi / 2, _GRID)
    density = np.cos(theta) ** (degrees - 1.0)
    mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return float(sqrt(degrees) * np.tan(np.interp((2.0 * share - 1.0) * mass[-1], mass, theta)))


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """numerator / denominator, element by element; not a number where the denominator is not above zero."""
    defined = denominator > 0
    return np.where(defined, numerator / np.where(defined, denominator, 1.0), np.nan)


def _draw_weights(units: int, settings: Bootstrap, at_once: int) -> Iterator[FloatArray]:
    """How often each unit is drawn, (at most `at_once`, units) at a time: multinomial counts of `units` draws a resample."""
    generator = np.random.default_rng(settings.seed)
    for start in range(0, settings.resamples, at_once):
        count = min(at_once, settings.resamples - start)
        drawn = generator.integers(0, units, size=(count, units))
        drawn += np.arange(count)[:, None] * units
        yield np.bincount(drawn.ravel(), minlength=count * units).reshape(count, units).astype(np.float64)


def _sum_by(clusters: IntArray, units: int, statistics: FloatArray) -> FloatArray:
    sums = np.zeros((units, statistics.shape[1]))
    np.add.at(sums, clusters, statistics)
    return sums


def _quiet(value: Callable[[FloatArray], FloatArray], totals: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(value(totals), dtype=np.float64)

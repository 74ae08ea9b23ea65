"""Paired bootstrap intervals for additive metrics. Where rows have groups, whole groups are drawn (cluster bootstrap).

Sources: Efron & Tibshirani 1993, An Introduction to the Bootstrap, §6 (draws), §13 (percentile interval); Davison & Hinkley 1997,
Bootstrap Methods and their Application, §3.8 (clusters); Koehn 2004 (paired resampling of systems' scores); Hesterberg 2015, What
Teachers Should Know about the Bootstrap, arXiv 1411.5279 (expanded percentiles).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import sqrt
from statistics import NormalDist

import numpy as np

from potstill.evaluation.resampling import Bootstrap, number
from potstill.evaluation.sums import FloatArray, IntArray
from potstill.records import Interval

FEWEST_UNITS = 10
"""With fewer rows or groups no percentile is far enough out: resamples cannot reach beyond the units' own extremes."""
FEW_UNITS = 30
"""With fewer, skewed figures are still covered too rarely (a 95 % interval 90 to 93 times in 100): a reader should be told."""
_GRID = 50_001


def cluster_rows(groups: Sequence[str | None]) -> IntArray:
    """The cluster (0, 1, ...) of each row, in order of appearance: rows of one group share it, a row without group has its own."""
    return number([index if group is None else group for index, group in enumerate(groups)])[0]


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


def crossed_reach(rows: float, seeds: float, units: int, runs: int, confidence: float) -> float:
    """Half the length of Student's interval of a mean over runs, whose variance is `rows` + `seeds`.

    `rows` is what `units` rows (or groups) give, `seeds` what `runs` seeds give. Degrees of freedom: Satterthwaite 1946, Biometrics
    Bulletin 2, 110.
    """
    variance = rows + seeds
    if variance == 0:
        return 0.0
    degrees = variance**2 / (rows**2 / (units - 1) + seeds**2 / (runs - 1))
    return student_quantile((1 + confidence) / 2, degrees) * sqrt(variance)


@lru_cache(maxsize=1024)
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

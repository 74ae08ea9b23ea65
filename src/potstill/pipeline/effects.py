"""How much a student gains by something that was done to its training rows, with an interval over rows and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil
from statistics import NormalDist
from typing import Any, Literal

import numpy as np

from potstill.evaluation.intervals import FEWEST_UNITS, crossed_reach
from potstill.evaluation.resampling import Bootstrap, Column, resample_figures
from potstill.evaluation.sums import FloatArray, IntArray
from potstill.records import Interval

Finding = Literal["better", "worse", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Spread:
    """The variance of a mean difference, in two parts: which rows it was measured on, and which seeds it was trained with."""

    rows: float
    seeds: float


@dataclass(frozen=True, slots=True)
class Effect:
    """A mean difference, its interval (None: too few rows to tell), and what follows from that.

    `decided_by` says how many rows and seeds would settle an inconclusive one, if the difference and its spread stay what they are.
    """

    value: float
    interval: Interval | None
    finding: Finding
    decided_by: dict[str, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """As `ablation.json` holds it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Design:
    """What was measured: a metric's `value` of sums over n rows, `clusters` (n,) of rows that go together, and which way is up."""

    value: Callable[[FloatArray], FloatArray]
    clusters: IntArray
    higher_is_better: bool = True
    settings: Bootstrap = field(default_factory=Bootstrap)

    @property
    def units(self) -> int:
        """How many rows, or groups of rows, are drawn from."""
        return int(self.clusters.max()) + 1


def effect(first: Sequence[FloatArray], second: Sequence[FloatArray], design: Design) -> Effect:
    """How much better `first` scores than `second`: statistics (n, s) of the same rows in each, seed by seed.

    Both vary: with other rows the same students would score otherwise, and with other seeds the same rows would make other
    students. The two are crossed, so the variance of the mean difference is the sum of what each gives: mildly too large, because
    what rows and seeds do together counts twice (Owen & Eckles 2012, Bootstrapping data arrays of arbitrary order, arXiv 1106.2125). That
    of rows is a paired cluster bootstrap's, times G/(G−1) for G units (`evaluation.intervals`); that of seeds is the variance
    between their differences over their number, because resamples of three seeds hardly spread. The interval is Student's, with
    Satterthwaite's degrees of freedom (1946, Biometrics Bulletin 2, 110). Its ends meet where both always score the same.
    """
    assert len(first) == len(second) >= 2, "one seed does not tell how much seeds vary"
    differences = [_figure(design, one) - _figure(design, other) for one, other in zip(first, second, strict=True)]
    value = float(np.mean(differences))
    if design.units < FEWEST_UNITS:
        return Effect(value, None, "inconclusive")
    spread = Spread(_row_variance(first, second, design), float(np.var(differences, ddof=1)) / len(differences))
    if not np.isfinite([value, spread.rows, spread.seeds]).all():
        return Effect(value, None, "inconclusive")
    reach = crossed_reach(spread.rows, spread.seeds, design.units, len(differences), design.settings.confidence)
    interval = Interval(value - reach, value + reach, design.settings.confidence, design.settings.resamples)
    found = finding_of(interval, higher_is_better=design.higher_is_better)
    decided_by = _decided_by(value, spread, design, len(differences)) if found == "inconclusive" else None
    return Effect(value, interval, found, decided_by)


def _figure(design: Design, statistics: FloatArray) -> float:
    return Column(statistics, design.value).figure()


def _row_variance(first: Sequence[FloatArray], second: Sequence[FloatArray], design: Design) -> float:
    columns = [Column(statistics, design.value) for statistics in (*first, *second)]
    figures = resample_figures(columns, design.clusters, design.settings)
    means = figures[:, : len(first)].mean(axis=1) - figures[:, len(first) :].mean(axis=1)
    return float(np.var(means, ddof=1)) * design.units / (design.units - 1)


def finding_of(interval: Interval, *, higher_is_better: bool) -> Finding:
    """What the interval of a difference tells."""
    if interval.low <= 0 <= interval.high:
        return "inconclusive"
    return "better" if (interval.low > 0) == higher_is_better else "worse"


def _decided_by(value: float, spread: Spread, design: Design, seeds: int) -> dict[str, int] | None:
    """More seeds where rows leave room for it, else more rows where seeds do, else more of both."""
    z = NormalDist().inv_cdf((1 + design.settings.confidence) / 2)
    bound = (value / z) ** 2  # what the variance must come down to
    if bound == 0:
        return None
    if spread.rows < bound / 2:
        return {"seeds": max(seeds + 1, ceil(seeds * spread.seeds / (bound - spread.rows)))}
    if spread.seeds < bound / 2:
        return {"rows": max(design.units + 1, ceil(design.units * spread.rows / (bound - spread.seeds)))}
    times = (spread.rows + spread.seeds) / bound
    return {"rows": max(design.units + 1, ceil(design.units * times)), "seeds": max(seeds + 1, ceil(seeds * times))}

"""Several seeds: how much of a score is the seed's doing, and how much the rows'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

import numpy as np

from potstill.errors import DataError
from potstill.evaluation.compare import interval_to_json, score_systems
from potstill.evaluation.intervals import FEWEST_UNITS, cluster_rows, crossed_reach
from potstill.evaluation.resampling import Bootstrap, resample_figures
from potstill.evaluation.sums import FloatArray
from potstill.records import Interval
from potstill.tasks.metrics.base import Metric, Prediction


@dataclass(frozen=True, slots=True)
class SeedSpread:
    """The mean score of `runs` runs that differ in their seed alone, and standard deviations of one run's score.

    `between_sd`: between runs, scored on the same rows. `within_sd`: of one run, between test sets of as many rows. `interval` is that of
    the mean, over other seeds and other rows; None for too few rows.
    """

    metric: str
    runs: int
    mean: float
    between_sd: float
    within_sd: float
    interval: Interval | None

    def to_json(self) -> dict[str, Any]:
        """The spread as `seeds` in a comparison of runs."""
        return {**asdict(self), "interval": interval_to_json(self.interval)}


def spread_of_seeds(
    metric: Metric, runs: Sequence[Sequence[Prediction]], groups: Sequence[str | None], settings: Bootstrap | None = None
) -> SeedSpread:
    """The spread of several runs' predictions of the same n rows, `groups` (n,) saying which rows go together.

    Rows and seeds are crossed, so the mean's variance is the sum of what each gives (Owen & Eckles 2012, arXiv 1106.2125): that of rows by
    a paired cluster bootstrap, that of seeds between the runs' scores over their number. The interval is Student's (`crossed_reach`).

    Raises DataError for fewer than two runs, and for none or different numbers of rows.
    """
    settings = settings or Bootstrap()
    if len(runs) < 2:
        raise DataError(f"the spread between seeds needs two runs or more, found {len(runs)}")
    if len({len(one) for one in (*runs, groups)}) > 1:
        raise DataError(f"the runs have different numbers of rows: {', '.join(str(len(one)) for one in runs)}")
    [scored] = score_systems([metric], {str(place): one for place, one in enumerate(runs)})
    columns, clusters = list(scored.columns.values()), cluster_rows(groups)
    units, figures = int(clusters.max()) + 1, np.array([column.figure() for column in columns])
    mean, between = float(figures.mean()), float(np.var(figures, ddof=1))
    draws = resample_figures(columns, clusters, settings)
    within, rows = float(_variance(draws, units).mean()), float(_variance(draws.mean(axis=1), units))
    interval = None
    if units >= FEWEST_UNITS:
        reach = crossed_reach(rows, between / len(runs), units, len(runs), settings.confidence)
        interval = Interval(mean - reach, mean + reach, settings.confidence, settings.resamples)
    return SeedSpread(metric.name, len(runs), mean, sqrt(between), sqrt(within), interval)


def _variance(draws: FloatArray, units: int) -> FloatArray:
    """Resamples spread too little by (units − 1) / units."""
    found: FloatArray = np.var(draws, axis=0, ddof=1) * units / max(1, units - 1)
    return found

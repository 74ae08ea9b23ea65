"""How much a figure varies between trainings that differ by their seed alone, and within one, between test rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite, sqrt
from typing import Any

import numpy as np

from potstill.evaluation.intervals import FEWEST_UNITS, crossed_reach
from potstill.evaluation.resampling import Bootstrap
from potstill.evaluation.sums import FloatArray
from potstill.records import Interval


@dataclass(frozen=True, slots=True)
class SeedSpread:
    """A figure over several trainings: `between_sd` is the standard deviation between them, `within_sd` that of one by its test rows.

    `interval` is that of the mean, for other seeds and other rows; None where there are too few rows to tell.
    """

    runs: int
    mean: float
    between_sd: float
    within_sd: float
    interval: Interval | None

    def to_json(self) -> dict[str, Any]:
        """As the comparison of runs holds it; what is undefined is null."""
        return {name: None if isinstance(value, float) and not isfinite(value) else value for name, value in asdict(self).items()}


def spread_of_seeds(values_R: FloatArray, draws_NR: FloatArray, units: int, settings: Bootstrap, *, same_rows: bool) -> SeedSpread:
    """The spread of R ≥ 2 trainings' figures `values_R`, of which `draws_NR` are N resamples of `units` rows or groups of rows.

    With the `same_rows`, drawn together, seeds and rows are crossed: the variance of the mean is that between seeds over R, and that of the
    resampled mean (Owen & Eckles 2012, arXiv 1106.2125). With rows of its own in each training, what lies between them holds both already.
    The interval is Student's (`crossed_reach`).
    """
    runs = len(values_R)
    assert runs >= 2, "one seed does not tell how much seeds vary"
    mean, between = float(np.mean(values_R)), float(np.var(values_R, ddof=1))
    # Resamples spread less than samples do.
    whole = units / (units - 1) if units > 1 else np.nan
    within = float(np.mean(np.var(draws_NR, axis=0, ddof=1))) * whole
    rows = float(np.var(draws_NR.mean(axis=1), ddof=1)) * whole if same_rows else 0.0
    interval = None
    if units >= FEWEST_UNITS and np.isfinite([mean, rows, between]).all():
        reach = crossed_reach(rows, between / runs, units, runs, settings.confidence)
        interval = Interval(mean - reach, mean + reach, settings.confidence, settings.resamples)
    return SeedSpread(runs, mean, sqrt(between), sqrt(within), interval)

"""Systems side by side on the same rows: scores, what the student kept of its teacher, what it gained over the baseline."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from potstill.errors import DataError
from potstill.evaluation.intervals import (
    Bootstrap,
    Column,
    FloatArray,
    IntArray,
    cluster_rows,
    percentile_interval,
    ratio,
    resample_figures,
)
from potstill.records import Interval, Score
from potstill.tasks.metrics.base import Metric, Prediction

TEACHER, BASELINE, STUDENT, SFT = "teacher", "baseline", "student", "sft"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure made of two systems' scores.

    `value` is None where it is undefined (a teacher that scores 0). `undefined` is the share of resamples in which it is; `interval` is
    None where those are too many, or where there are too few rows or groups to draw from.
    """

    value: float | None
    interval: Interval | None
    undefined: float = 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Scores by system and metric, and estimates by metric, system and name (`retention`, `gain`, `gap_recovered`, `over_sft`).

    `units` is how many rows, or groups of rows, intervals are drawn from.
    """

    scores: dict[str, dict[str, Score]]
    estimates: dict[str, dict[str, dict[str, Estimate]]]
    units: int


def compare_systems(
    metrics: Sequence[Metric], predictions: Mapping[str, Sequence[Prediction]], groups: Sequence[str | None], settings: Bootstrap
) -> Comparison:
    """Score each system's predictions of the same n rows, and compare, with paired bootstrap intervals.

    Retention is score / teacher's score (for each system but the teacher); gain is score − baseline's score; gap recovered is
    (score − baseline's) / (teacher's − baseline's), for each system but those two; over sft is the student's score − that of the plain one
    beside it. A ratio is undefined where its denominator is not
    above zero. Rows of one group are drawn together. Raises DataError where there are no rows.
    """
    clusters = cluster_rows(groups)
    if not len(clusters):
        raise DataError("nothing to score: there is no row that every system answered")
    systems = list(predictions)
    columns = {
        (metric.name, system): Column(metric.statistics(predictions[system]), metric.value) for metric in metrics for system in systems
    }
    units = int(clusters.max()) + 1
    resampled = _resample(columns, clusters, settings)
    scores: dict[str, dict[str, Score]] = {system: {} for system in systems}
    estimates: dict[str, dict[str, dict[str, Estimate]]] = {}
    for metric in metrics:
        figures = {system: resampled[metric.name, system] for system in systems}
        for system, figure in figures.items():
            scores[system][metric.name] = Score(
                metric.name, figure.point, len(clusters), percentile_interval(figure.draws, units, settings)
            )
        estimates[metric.name] = {system: _estimates(system, figures, units, settings) for system in systems if system != TEACHER}
    return Comparison(scores, estimates, units)


def score_to_json(score: Score) -> dict[str, object]:
    """The score as `scores.json` holds it: value, n, interval; a figure that is not a number is null."""
    value = score.value if math.isfinite(score.value) else None
    return {"value": value, "n": score.n, "interval": interval_to_json(score.interval)}


def estimate_to_json(estimate: Estimate) -> dict[str, object]:
    """The estimate as `scores.json` holds it: value and interval, null where undefined, and the share of undefined resamples."""
    return {"value": estimate.value, "interval": interval_to_json(estimate.interval), "undefined": estimate.undefined}


def interval_to_json(interval: Interval | None) -> dict[str, object] | None:
    """The interval as `scores.json` holds it."""
    return None if interval is None else dataclasses.asdict(interval)


@dataclass(frozen=True, slots=True)
class _Figure:
    """A score as it is, and in each resample."""

    point: float
    draws: FloatArray


def _resample(columns: dict[tuple[str, str], Column], clusters: IntArray, settings: Bootstrap) -> dict[tuple[str, str], _Figure]:
    draws = resample_figures(list(columns.values()), clusters, settings)
    return {key: _Figure(column.figure(), draws[:, index]) for index, (key, column) in enumerate(columns.items())}


def _estimates(system: str, figures: dict[str, _Figure], units: int, settings: Bootstrap) -> dict[str, Estimate]:
    own, teacher, baseline = figures[system], figures.get(TEACHER), figures.get(BASELINE)
    found = {}
    if teacher is not None:
        found["retention"] = _estimate([own, teacher], ratio, units, settings)
    if baseline is not None and system != BASELINE:
        found["gain"] = _estimate([own, baseline], np.subtract, units, settings)
        if teacher is not None:
            found["gap_recovered"] = _estimate([own, baseline, teacher], _gap_recovered, units, settings)
    if system == STUDENT and SFT in figures:
        found["over_sft"] = _estimate([own, figures[SFT]], np.subtract, units, settings)
    return found


def _gap_recovered(own: FloatArray, baseline: FloatArray, teacher: FloatArray) -> FloatArray:
    return ratio(own - baseline, teacher - baseline)


def _estimate(figures: Sequence[_Figure], combine: Callable[..., FloatArray], units: int, settings: Bootstrap) -> Estimate:
    point = float(combine(*(np.float64(figure.point) for figure in figures)))
    draws = combine(*(figure.draws for figure in figures))
    undefined = float(np.mean(~np.isfinite(draws)))
    return Estimate(point if math.isfinite(point) else None, percentile_interval(draws, units, settings), undefined)

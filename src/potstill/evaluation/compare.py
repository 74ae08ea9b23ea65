"""Systems side by side on the same rows: scores, what the student kept of its teacher, what it gained over the baseline."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from potstill.errors import DataError
from potstill.evaluation.intervals import cluster_rows, percentile_interval, ratio
from potstill.evaluation.resampling import Bootstrap, Column, Study, conduct, number
from potstill.evaluation.sums import FloatArray, IntArray
from potstill.records import Interval, Score
from potstill.tasks.metrics.base import Mean, Metric, Prediction

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
    """Scores by system and metric, and estimates by metric, system and name (`retention`, `gain`, `gap_recovered`, `over_<system>`).

    `units` is how many rows, or groups of rows, intervals are drawn from.
    """

    scores: dict[str, dict[str, Score]]
    estimates: dict[str, dict[str, dict[str, Estimate]]]
    units: int


@dataclass(frozen=True, slots=True)
class Scored:
    """What a metric finds in the answers of several systems to the same n rows: a column for each. `name` is what it is told under."""

    name: str
    metric: Metric
    columns: dict[str, Column]

    def row_scores(self, system: str) -> FloatArray | None:
        """(n,) a system's scores row by row; None for metrics of a whole corpus."""
        column = self.columns[system]
        return column.statistics[column.rows, 0] if isinstance(self.metric, Mean) else None


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure as it is, (), and in each resample, (resamples,)."""

    point: float
    draws: FloatArray


def compare_systems(
    metrics: Sequence[Metric], predictions: Mapping[str, Sequence[Prediction]], groups: Sequence[str | None], settings: Bootstrap
) -> Comparison:
    """Score each system's predictions of the same n rows, and compare, with paired bootstrap intervals (`comparison`).

    Raises DataError where there are no rows.
    """
    return compare_scored(score_systems(metrics, predictions), cluster_rows(groups), settings)


def score_systems(metrics: Sequence[Metric], predictions: Mapping[str, Sequence[Prediction]]) -> list[Scored]:
    """Each system's predictions of the same n rows by each metric; equal predictions are scored once.

    Raises DataError where there are no rows.
    """
    if not all(predictions.values()):
        raise DataError("nothing to score: there is no row that every system answered")
    columns: dict[str, dict[str, Column]] = {metric.name: {} for metric in metrics}
    for system, given in predictions.items():
        codes, first = number([(one.answer, one.references) for one in given])
        different = [given[place] for place in first]
        for metric in metrics:
            columns[metric.name][system] = Column(metric.statistics(different), metric.value, codes)
    return [Scored(metric.name, metric, columns[metric.name]) for metric in metrics]


def compare_scored(scored: Sequence[Scored], clusters: IntArray, settings: Bootstrap) -> Comparison:
    """Compare systems metric by metric (`comparison`)."""
    found: Comparison = conduct([comparison(scored, clusters, settings)], clusters, settings)[0]
    return found


def comparison(scored: Sequence[Scored], clusters: IntArray, settings: Bootstrap) -> Study[Comparison]:
    """Systems side by side, metric by metric, with paired bootstrap intervals; rows of one cluster are drawn together.

    Retention is score / teacher's score (for each system but the teacher); gain is score − baseline's score; gap recovered is
    (score − baseline's) / (teacher's − baseline's), for each system but those two; over_<system> is the student's score − that of the plain
    one beside it (`over_sft`), or of another that the spec compares with. A ratio is undefined where its denominator is not above zero.
    """
    units = int(clusters.max()) + 1

    def conclude(draws: list[FloatArray]) -> Comparison:
        drawn = iter(draws)
        scores: dict[str, dict[str, Score]] = {}
        estimates: dict[str, dict[str, dict[str, Estimate]]] = {}
        for one in scored:
            figures = {system: Figure(column.figure(), next(drawn)) for system, column in one.columns.items()}
            for system, figure in figures.items():
                interval = percentile_interval(figure.draws, units, settings)
                scores.setdefault(system, {})[one.name] = Score(one.name, figure.point, len(clusters), interval)
            estimates[one.name] = {system: _estimates(system, figures, units, settings) for system in figures if system != TEACHER}
        return Comparison(scores, estimates, units)

    return Study([column for one in scored for column in one.columns.values()], conclude)


def retained(own: Figure, teacher: Figure, units: int, settings: Bootstrap) -> Estimate:
    """own / teacher's, with its interval; undefined where the teacher's is not above zero."""
    return _estimate([own, teacher], ratio, units, settings)


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


def _estimates(system: str, figures: dict[str, Figure], units: int, settings: Bootstrap) -> dict[str, Estimate]:
    own, teacher, baseline = figures[system], figures.get(TEACHER), figures.get(BASELINE)
    found = {}
    if teacher is not None:
        found["retention"] = retained(own, teacher, units, settings)
    if baseline is not None and system != BASELINE:
        found["gain"] = _estimate([own, baseline], np.subtract, units, settings)
        if teacher is not None:
            found["gap_recovered"] = _estimate([own, baseline, teacher], _gap_recovered, units, settings)
    if system == STUDENT:
        others = (name for name in figures if name not in (TEACHER, BASELINE, STUDENT))
        found |= {f"over_{name}": _estimate([own, figures[name]], np.subtract, units, settings) for name in others}
    return found


def _gap_recovered(own: FloatArray, baseline: FloatArray, teacher: FloatArray) -> FloatArray:
    return ratio(own - baseline, teacher - baseline)


def _estimate(figures: Sequence[Figure], combine: Callable[..., FloatArray], units: int, settings: Bootstrap) -> Estimate:
    point = float(combine(*(np.float64(figure.point) for figure in figures)))
    draws = combine(*(figure.draws for figure in figures))
    undefined = float(np.mean(~np.isfinite(draws)))
    return Estimate(point if math.isfinite(point) else None, percentile_interval(draws, units, settings), undefined)

"""A metric's figure over predictions, without intervals."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.tasks.metrics.base import FloatArray, Mean, Metric, Prediction


def score(metric: Metric, predictions: Sequence[Prediction]) -> float:
    """The metric over all predictions, in its own unit. Raises DataError for none at all, or for one without references."""
    return float(metric.value(metric.statistics(predictions).sum(axis=0)))


def score_all(metrics: Sequence[Metric], predictions: Sequence[Prediction]) -> dict[str, float]:
    """Each metric's figure, by name."""
    return {metric.name: score(metric, predictions) for metric in metrics}


def row_scores(metric: Metric, predictions: Sequence[Prediction]) -> FloatArray | None:
    """(n,) scores a row; None for metrics of a whole corpus (BLEU, chrF, macro-F1), which no row has by itself."""
    return metric.rows(predictions) if isinstance(metric, Mean) else None

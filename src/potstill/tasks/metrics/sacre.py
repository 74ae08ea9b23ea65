"""Sufficient statistics of sacrebleu's corpus metrics, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from potstill.tasks.metrics.base import FloatArray, Prediction, require_scorable


def corpus_statistics(name: str, metric: Any, predictions: Sequence[Prediction]) -> FloatArray:
    """(n, s) statistics of a sacrebleu metric; unparsable answers count as empty texts, which match nothing.

    sacrebleu takes references as one stream for each rank, padded where a row has fewer; asked row by row, no row is padded.
    Its bootstrap (`sacrebleu.significance`) reads the same statistics.
    """
    require_scorable(name, predictions)
    rows = [
        metric._extract_corpus_statistics([prediction.answer or ""], [[reference] for reference in prediction.references])[0]
        for prediction in predictions
    ]
    return np.array(rows, dtype=np.float64)

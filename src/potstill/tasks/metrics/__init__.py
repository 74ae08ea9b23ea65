"""The metrics, by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

from potstill.errors import SpecError
from potstill.tasks.metrics.accuracy import accuracy
from potstill.tasks.metrics.base import Mean, Metric, Prediction
from potstill.tasks.metrics.bleu import bleu
from potstill.tasks.metrics.chrf import chrf
from potstill.tasks.metrics.macro_f1 import macro_f1
from potstill.tasks.metrics.math_value import math_accuracy
from potstill.tasks.metrics.rouge import rouge_1, rouge_2, rouge_l
from potstill.tasks.metrics.score import row_scores, score, score_all
from potstill.tasks.metrics.squad import exact_match, token_f1

__all__ = ["ALIASES", "METRICS", "Mean", "Metric", "Prediction", "build_metric", "canonical_name", "row_scores", "score", "score_all"]

METRICS: dict[str, Callable[[Sequence[str]], Metric]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "exact_match": exact_match,
    "token_f1": token_f1,
    "math_accuracy": math_accuracy,
    "rouge_1": rouge_1,
    "rouge_2": rouge_2,
    "rouge_l": rouge_l,
    "bleu": bleu,
    "chrf": chrf,
}

ALIASES = {
    "bleu_score": "bleu",
    "chrf_score": "chrf",
    "em": "exact_match",
    "f1": "token_f1",
    "rouge": "rouge_l",
    "rouge1": "rouge_1",
    "rouge2": "rouge_2",
    "rougel": "rouge_l",
}
"""Other people's names for them. `f1` means macro_f1 where there is a label set."""


def build_metric(name: str, labels: Sequence[str] = ()) -> Metric:
    """The metric of that name or alias (`ROUGE-L` and `rouge_l` are one). `labels` is the closed label set, if there is one.

    Raises SpecError for a name that is not known, and for macro_f1 without labels.
    """
    return METRICS[canonical_name(name, labels)](labels)


def canonical_name(name: str, labels: Sequence[str] = ()) -> str:
    """The name in METRICS that `name` stands for. Raises SpecError where it stands for none."""
    plain = name.strip().lower().replace("-", "_").replace(" ", "_")
    if plain == "f1" and labels:
        return "macro_f1"
    plain = ALIASES.get(plain, plain)
    if plain not in METRICS:
        close = difflib.get_close_matches(plain, [*METRICS, *ALIASES], n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise SpecError(f'there is no metric "{name}"; {hint}there are {", ".join(sorted(METRICS))}')
    return plain

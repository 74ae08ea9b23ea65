"""Drops answers that disagree with the row's own reference, as the task compares answers."""

from __future__ import annotations

from potstill.data.rows import quote
from potstill.generation.gates.base import UNSCORED, GateContext
from potstill.records import Verdict
from potstill.tasks.metrics import build_metric, row_scores
from potstill.tasks.metrics.base import Prediction

NAME = "gold"
VERSION = 1
LEAST = 0.5
"""An open answer agrees with its reference where their word F1 is at least so high."""
_COMPARE = ("accuracy", "math_accuracy", "exact_match", "token_f1")


def gold(context: GateContext) -> Verdict:
    """Keep answers that agree with one of the references by the first metric of the task that compares answers.

    Code: `disagrees`. Rows without references, and tasks whose answers may be worded in many ways (conversations, summaries,
    translations), are kept as `unscored`.
    """
    name = next((metric for metric in context.task.metrics if metric in _COMPARE), None)
    references = context.task.expand(context.example)[-1].reference if name else ()
    if name is None or not references:
        why = "the row has no reference" if name else f"answers of a {context.task.type} task may be worded in many ways"
        return Verdict(NAME, True, why, VERSION, UNSCORED)
    answer = context.task.parse(context.completion.text)
    scores = row_scores(build_metric(name), [Prediction(answer, references)])
    if scores is not None and scores[0] < LEAST:
        return Verdict(NAME, False, f"{quote(answer)} is not the reference {quote(references[0])}", VERSION, "disagrees")
    return Verdict(NAME, True, version=VERSION)

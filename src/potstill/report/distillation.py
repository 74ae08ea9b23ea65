"""Did distillation help? The student against a plain one that learnt the same rows, in a finding and a sentence."""

from __future__ import annotations

from typing import Any, Literal

from potstill.report.units import score_text

Finding = Literal["better", "worse", "inconclusive", "not compared"]


def told(evaluation: dict[str, Any]) -> dict[str, Any]:
    """What `report.json` holds under `distillation`, of the content of `scores.json`: `metric`, `difference`, `finding`, `sentence`.

    The difference is the student's score less the plain one's, on the first metric, else on agreement with the teacher; it is `better` or
    `worse` where its interval leaves 0 out.
    """
    scores, title, difference, higher = _compared(evaluation)
    if difference is None or difference["value"] is None:
        why = "both students were not measured" if "sft" in evaluation["systems"] else "the student learnt by plain fine-tuning itself"
        return {"metric": title, "difference": None, "finding": "not compared", "sentence": f"Did distillation help? Nobody knows: {why}."}
    finding = _finding(difference, higher_is_better=higher)
    return {"metric": title, "difference": difference, "finding": finding, "sentence": _sentence(finding, title, scores, difference)}


def _compared(evaluation: dict[str, Any]) -> tuple[dict[str, Any], str, dict[str, Any] | None, bool]:
    """Scores by system, the metric's title, the estimate, and whether more is better."""
    primary = evaluation["primary"]
    if primary is None:
        agreement = evaluation["agreement"]
        return agreement["scores"], f"agreement with the teacher ({agreement['title']})", agreement.get("over_sft"), True
    metric = evaluation["metrics"][primary]
    scores = {system: found["scores"].get(primary) for system, found in evaluation["systems"].items()}
    difference = evaluation["comparisons"][primary].get("student", {}).get("over_sft")
    return scores, metric["title"], difference, metric["higher_is_better"]


def _finding(difference: dict[str, Any], *, higher_is_better: bool) -> Finding:
    interval = difference["interval"]
    if interval is None or interval["low"] <= 0 <= interval["high"]:
        return "inconclusive"
    return "better" if (interval["low"] > 0) == higher_is_better else "worse"


def _sentence(finding: Finding, title: str, scores: dict[str, Any], difference: dict[str, Any]) -> str:
    interval = difference["interval"]
    bounds = "" if interval is None else f" [{_plus(interval['low'])}, {_plus(interval['high'])}]"
    figures = f"{title} {score_text(scores['student']['value'])}, and {score_text(scores['sft']['value'])} with plain fine-tuning"
    told_by = f"{figures} on the same rows: {_plus(difference['value'])}{bounds}"
    n = scores["student"]["n"]
    if interval is None:
        return f"Did distillation help? Not known: {told_by}, and {n:,} test questions are too few for an interval."
    said = {"better": "Yes", "worse": "No, it did harm", "inconclusive": f"Not shown by {n:,} test questions"}
    return f"Did distillation help? {said[finding]}: {told_by}."


def _plus(value: float) -> str:
    return f"+{score_text(value)}" if value > 0 else score_text(value)

"""Verdicts on the spec's goals, from parts of `report.json`: those about quality, and those about time, memory, money and users."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.records import Interval
from potstill.report.savings import Estimate, concurrent_users, cost_reduction, latency_reduction, memory_reduction
from potstill.spec.sections import GoalsSpec
from potstill.verdicts import Goal, judge_goal, judge_quality


def judge_goals(
    goals: GoalsSpec, evaluation: Mapping[str, Any], timings: Mapping[str, Any], cost: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What `report.json` holds under `evaluation.goals`: goals about quality first, then those that were measured.

    `evaluation` is the content of `scores.json`, `timings` those of its systems, `cost` what `reckon_cost` says.
    """
    return [*judge_quality(goals.quality(), evaluation), *_judge_measured(goals.measured(), evaluation, timings, cost)]


def _judge_measured(
    goals: Sequence[Goal], evaluation: Mapping[str, Any], timings: Mapping[str, Any], cost: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Of time there is a sample, the answers on the clock; memory, price and throughput were measured once, and judge themselves."""
    settings = evaluation["settings"]
    draws = {"resamples": settings["resamples"], "confidence": settings["confidence"], "seed": evaluation["seed"]}
    timed = len(timings.get("student", {}).get("latency_s", {}).get("samples", []))
    found: dict[str, tuple[Estimate, int | None]] = {
        "latency_reduction": (latency_reduction(timings, **draws), timed),
        "memory_reduction": (memory_reduction(timings), None),
        "cost_reduction": (cost_reduction(cost), None),
        "concurrent_users": (concurrent_users(timings), None),
    }
    judged = []
    for goal in goals:
        estimate, n = found[goal.name]
        interval = None if estimate["interval"] is None else Interval(**estimate["interval"])
        judged.append(judge_goal(goal, estimate["value"], interval, n, "timed answers").to_json())
    return judged

"""What the student saves against its teacher in time, memory and money, and how many more users it serves: what goals are about.

Each is an estimate as `scores.json` writes them (`value`, `interval`, `undefined`), of parts of `report.json`; null where not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from potstill.records import Interval

FEWEST_SAMPLES = 10
"""With fewer answers on the clock there is no interval."""
_MEMORY = ("peak_gpu_bytes", "peak_above_empty_bytes")

Estimate = dict[str, Any]


def latency_reduction(
    timings: Mapping[str, Any], *, system: str = "student", resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Estimate:
    """The share of its teacher's time that an answer is shorter by: 1 − median / teacher's median, one request in flight.

    The interval is of a paired percentile bootstrap over the questions on the clock (Efron & Tibshirani 1993, §13.3): each resample draws
    the same questions for both.
    """
    own, teacher = (timings.get(name, {}).get("latency_s", {}).get("samples", []) for name in (system, "teacher"))
    if not own or len(own) != len(teacher):
        return _estimate(None)
    pairs = np.array([own, teacher], dtype=np.float64)
    value = 1.0 - float(np.median(pairs[0]) / np.median(pairs[1]))
    n = pairs.shape[1]
    if n < FEWEST_SAMPLES:
        return _estimate(value)
    drawn = np.random.default_rng(seed).integers(0, n, size=(resamples, n))
    medians = np.median(pairs[:, drawn], axis=2)
    low, high = np.quantile(1.0 - medians[0] / medians[1], [(1.0 - confidence) / 2, (1.0 + confidence) / 2])
    return _estimate(value, Interval(float(low), float(high), confidence, resamples))


def memory_reduction(timings: Mapping[str, Any], *, system: str = "student") -> Estimate:
    """The share of its teacher's memory that answering takes less: 1 − peak / teacher's peak, above the empty process.

    An accelerator's memory where both were measured on one. One measurement each, so there is no interval.
    """
    own, teacher = timings.get(system, {}), timings.get("teacher", {})
    key = next((key for key in _MEMORY if own.get(key) and teacher.get(key)), None)
    return _estimate(None if key is None else 1.0 - own[key] / teacher[key])


def cost_reduction(cost: Mapping[str, Any], *, system: str = "student") -> Estimate:
    """The share of its teacher's price that a request costs less."""
    own, teacher = (cost["per_1000_requests"].get(name, {}).get("dollars") for name in (system, "teacher"))
    return _estimate(None if own is None or not teacher else 1.0 - own / teacher)


def concurrent_users(timings: Mapping[str, Any], *, system: str = "student", within_s: float | None = None) -> Estimate:
    """How many times as many users the student serves, none waiting longer than they do today.

    The most requests a second at any level of `throughput` whose p95 is `within_s` or less, over the teacher's; by default that is the
    teacher's own p95 with one request in flight. 0 where the student is too slow at every level. One measurement a level, so there is no
    interval.
    """
    own, teacher = (timings.get(name, {}).get("throughput", []) for name in (system, "teacher"))
    if not own or not teacher:
        return _estimate(None)
    bound = within_s if within_s is not None else min(teacher, key=lambda level: int(level["concurrency"]))["p95_s"]
    served, before = (
        max((level["requests_per_s"] for level in levels if level["p95_s"] <= bound), default=0.0) for levels in (own, teacher)
    )
    return _estimate(served / before if before > 0 else None)


def _estimate(value: float | None, interval: Interval | None = None) -> Estimate:
    said = None
    if interval is not None:
        said = {"low": interval.low, "high": interval.high, "confidence": interval.confidence, "resamples": interval.resamples}
    return {"value": value, "interval": said, "undefined": 0.0}

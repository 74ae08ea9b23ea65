"""Where the report's pictures put their marks. The template draws them as inline SVG; nothing here writes markup."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from potstill.report.table import bracket_text
from potstill.report.units import score_text

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Bar:
    """One system's figure on a metric: positions in per cent of the width; `low` and `high` are None without an interval."""

    label: str
    text: str
    at: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class IntervalChart:
    """The systems' figures on one metric, from 0 to `top`."""

    title: str
    top: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """One series over steps in a box of 100 by 100: an SVG point list, the marks, and the ends of both axes."""

    title: str
    points: str
    marks: tuple[Point, ...]
    low: str
    high: str
    last_step: str


def interval_chart(title: str, scores: Mapping[str, dict[str, Any]]) -> IntervalChart | None:
    """The picture of each system's score `{"value", "interval"}`; None where no system has a value."""
    known = {system: score for system, score in scores.items() if score["value"] is not None}
    highest = max((max(score["value"], (score["interval"] or {"high": 0.0})["high"]) for score in known.values()), default=None)
    if highest is None:
        return None
    top = nice_top(highest)
    return IntervalChart(title, score_text(top), tuple(_bar(system, score, top) for system, score in known.items()))


def curve(title: str, series: Sequence[Point]) -> Curve | None:
    """The picture of (step, value) pairs in order of steps; None for fewer than two finite ones."""
    finite = [(step, value) for step, value in series if math.isfinite(value)]
    if len(finite) < 2:
        return None
    low, high = min(value for _, value in finite), max(value for _, value in finite)
    first, last = finite[0][0], finite[-1][0]
    marks = tuple((_share(step, first, last), 100 - _share(value, low, high)) for step, value in finite)
    points = " ".join(f"{x:.2f},{y:.2f}" for x, y in marks)
    return Curve(title, points, marks, f"{low:.3g}", f"{high:.3g}", f"{last:.0f}")


def nice_top(value: float) -> float:
    """The least of 1, 2, 2.5, 5 times a power of ten that is not below `value`; 1 for zero."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1.0, 2.0, 2.5, 5.0, 10.0) if step * power >= value * (1 - 1e-9))


def _bar(system: str, score: dict[str, Any], top: float) -> Bar:
    interval = score["interval"]
    low, high = (None, None) if interval is None else (_share(interval["low"], 0, top), _share(interval["high"], 0, top))
    text = f"{score_text(score['value'])}{bracket_text(interval)}, n = {score['n']}"
    return Bar(system, text, _share(score["value"], 0, top), low, high)


def _share(value: float, low: float, high: float) -> float:
    """Where `value` lies between `low` and `high`, in per cent."""
    return 50.0 if high == low else 100.0 * (value - low) / (high - low)

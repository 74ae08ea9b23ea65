"""How it was made: learning curves, and why answers of the teacher were dropped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from potstill.report.charts import Point
from potstill.report.charts.base import Chart, Spec, count_axis, draw, nominal, quantity, values

MOST_POINTS = 300


def curve_chart(title: str, series: Sequence[Point], *, marks: bool, chosen: float | None = None) -> Chart | None:
    """(step, value) pairs in order of steps; None for fewer than two finite ones.

    More than `MOST_POINTS` are drawn as means of neighbours. `marks` shows each point; `chosen` is the step whose weights were kept.
    """
    finite = [(step, value) for step, value in series if math.isfinite(value)]
    if len(finite) < 2:
        return None
    points = thinned(finite)
    data = [{"step": step, "value": value, "label": f"step {step:,.0f}: {value:.4g}"} for step, value in points]
    layers: list[Spec] = [{"mark": {"type": "line", "strokeWidth": 1.75, "color": "var(--student)", "aria": False}}]
    if marks:
        layers.append(_points(data, 55))
    kept = [row for row in data if row["step"] == chosen]
    if kept:
        layers.append(_points([{**row, "label": f"{row['label']}, the weights that were kept"} for row in kept], 190))
    spec = {
        "height": 230,
        "data": values(data),
        "encoding": {"x": quantity("step", "step", axis=count_axis(finite[-1][0])), "y": quantity("value", scale={"zero": False})},
        "layer": layers,
    }
    rows = [(f"{step:,.0f}", f"{value:.4g}") for step, value in (points if len(points) <= 40 else points[:: len(points) // 40])]
    low, high = min(value for _, value in finite), max(value for _, value in finite)
    summary = f"{title} over {finite[-1][0]:,.0f} steps, between {low:.3g} and {high:.3g}"
    return draw(title, summary, spec, ("step", "value"), rows)


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most `MOST_POINTS` points: means of as many neighbours as that takes."""
    size = -(-len(points) // MOST_POINTS)
    chunks = [points[start : start + size] for start in range(0, len(points), size)]
    return [(chunk[-1][0], sum(value for _, value in chunk) / len(chunk)) for chunk in chunks]


def drops_chart(dropped: Mapping[str, int]) -> Chart | None:
    """How many answers of the teacher were dropped, by reason, most first; None where none was."""
    reasons = sorted(((reason, count) for reason, count in dropped.items() if count), key=lambda drop: -drop[1])
    if not reasons:
        return None
    data = [{"reason": reason, "count": count, "text": f"{count:,}", "label": f"{reason}: {count:,}"} for reason, count in reasons]
    spec = {
        "height": {"step": 28},
        "data": values(data),
        "encoding": {
            "y": nominal("reason", title=None, axis={"domain": False, "ticks": False, "labelColor": "var(--ink)", "labelFontSize": 12.5}),
            "x": quantity("count", None, axis=None, scale={"domain": [0, reasons[0][1] * 1.15], "nice": False}),
        },
        "layer": [
            {
                "mark": {"type": "bar", "size": 15, "color": "var(--baseline)"},
                "encoding": {"description": {"field": "label", "type": "nominal"}},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 5, "fontSize": 11.5, "color": "var(--ink)", "aria": False},
                "encoding": {"text": {"field": "text", "type": "nominal"}},
            },
        ],
    }
    rows = [(reason, f"{count:,}") for reason, count in reasons]
    return draw(
        "Answers dropped, by reason", "Answers of the teacher that were dropped, by reason", spec, ("dropped because", "rows"), rows
    )


def _points(data: Sequence[dict[str, object]], size: int) -> Spec:
    return {
        "data": values(dict(row) for row in data),
        "mark": {"type": "point", "filled": True, "size": size, "color": "var(--student)", "opacity": 1},
        "encoding": {"description": {"field": "label", "type": "nominal"}},
    }

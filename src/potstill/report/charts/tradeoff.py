"""What it costs: accuracy against time and memory, latency, throughput, dollars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from potstill.report.charts.base import Chart, Spec, axis_of, by_system, count_axis, draw, quantity, values
from potstill.report.charts.quality import Systems
from potstill.report.table import bracket_text
from potstill.report.units import bytes_text, duration_text, score_text

_QUANTILES = 100


def pareto_chart(title: str, score_title: str, x_title: str, unit: Literal["s", "B"], points: Sequence[dict[str, Any]]) -> Chart | None:
    """A score against what it costs in time (`unit` "s") or memory ("B"); a line joins those that no other beats in both.

    `points` hold `key`, `system`, `x`, `value`, `interval`. None with fewer than two.
    """
    if len(points) < 2:
        return None
    text = duration_text if unit == "s" else bytes_text
    data = [
        {
            "system": point["system"],
            "x": point["x"],
            "value": point["value"],
            "label": f"{point['system']}: {text(point['x'])}, {score_title} {score_text(point['value'])}{bracket_text(point['interval'])}",
            **({} if point["interval"] is None else {"low": point["interval"]["low"], "high": point["interval"]["high"]}),
        }
        for point in points
    ]
    looks = by_system([(point["key"], point["system"]) for point in points])
    x = axis_of("x", x_title, [point["x"] for point in points], unit)
    spec: Spec = {
        "height": 300,
        "layer": [
            {
                "data": values({"x": point["x"], "value": point["value"]} for point in frontier(points)),
                "mark": {
                    "type": "line",
                    "interpolate": "step-after",
                    "strokeDash": [4, 3],
                    "color": "var(--soft)",
                    "strokeWidth": 1,
                    "aria": False,
                },
                "encoding": {"x": x, "y": quantity("value")},
            },
            {
                "data": values(data),
                "encoding": {"x": x, "color": looks["color"]},
                "layer": [
                    {
                        "mark": {"type": "rule", "strokeWidth": 2, "opacity": 0.5, "aria": False},
                        "encoding": {"y": quantity("low"), "y2": {"field": "high"}},
                    },
                    {
                        "mark": {"type": "point", "filled": True, "size": 150, "opacity": 1},
                        "encoding": {
                            "y": quantity("value", score_title, scale={"zero": True}),
                            "shape": looks["shape"],
                            "description": {"field": "label", "type": "nominal"},
                        },
                    },
                ],
            },
        ],
    }
    rows = [(point["system"], text(point["x"]), f"{score_text(point['value'])}{bracket_text(point['interval'])}") for point in points]
    return draw(title, f"{title}: further up and further left is better", spec, ("system", x_title, score_title), rows)


def frontier(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points that no other beats in both: from left to right, each with a higher value than all before it."""
    best: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda point: (point["x"], -point["value"])):
        if not best or point["value"] > best[-1]["value"]:
            best.append(point)
    return best


def latency_chart(timings: Mapping[str, dict[str, Any]], systems: Systems) -> Chart | None:
    """The share of answers that are ready after a time, for systems whose single times are known."""
    shown = [(key, title, sorted(_samples(timings[key]))) for key, title in systems if len(_samples(timings.get(key, {}))) > 1]
    if not shown:
        return None
    data: list[dict[str, Any]] = []
    for _, title, samples in shown:
        for share in range(1, _QUANTILES + 1):
            seconds = samples[max(0, -(-share * len(samples) // _QUANTILES) - 1)]
            data.append(
                {
                    "system": title,
                    "seconds": seconds,
                    "share": share / _QUANTILES,
                    "label": f"{title}: {share} % within {duration_text(seconds)}",
                }
            )
    looks = by_system([(key, title) for key, title, _ in shown])
    x = axis_of("seconds", "time to the whole answer", [row["seconds"] for row in data], "s")
    spec: Spec = {
        "height": 260,
        "data": values(data),
        "encoding": {"x": x, "y": quantity("share", "answers ready", axis={"format": ".0%"}), "color": looks["color"]},
        "layer": [
            {"mark": {"type": "line", "interpolate": "step-before", "strokeWidth": 2, "aria": False}},
            {
                "transform": [{"filter": {"field": "share", "oneOf": [0.5, 0.95]}}],
                "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
                "encoding": {"shape": looks["shape"], "description": {"field": "label", "type": "nominal"}},
            },
        ],
    }
    rows = []
    for key, title, samples in shown:
        found = timings[key]["latency_s"]
        rows.append((title, *(duration_text(found[name]) for name in ("p50", "p95", "p99")), f"{len(samples):,}"))
    summary = "Share of answers that are ready after a time; the marks stand at the median and at 95 %"
    return draw("Latency", summary, spec, ("system", "p50", "p95", "p99", "n"), rows)


def throughput_chart(timings: Mapping[str, dict[str, Any]], systems: Systems) -> Chart | None:
    """Requests a second against requests at a time."""
    shown = [(key, title, timings[key]["throughput"]) for key, title in systems if timings.get(key, {}).get("throughput")]
    if not shown:
        return None
    data = [
        {
            "system": title,
            "concurrency": step["concurrency"],
            "rate": step["requests_per_s"],
            "label": f"{title}: {_rate(step['requests_per_s'])} requests/s with {step['concurrency']} at a time",
        }
        for _, title, steps in shown
        for step in steps
    ]
    looks = by_system([(key, title) for key, title, _ in shown])
    steps = sorted({row["concurrency"] for row in data})
    rates = [row["rate"] for row in data]
    far_apart = min(rates) > 0 and max(rates) > 20 * min(rates)
    y = quantity("rate", "requests/s", scale={"type": "log"} if far_apart else {"zero": True}, axis={"format": "~s"})
    x = quantity(
        "concurrency", "requests at a time", scale={"type": "log", "base": 2, "nice": False}, axis={"values": steps, "format": "d"}
    )
    spec = {
        "height": 260,
        "data": values(data),
        "encoding": {"x": x, "y": y, "color": looks["color"]},
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 2, "aria": False}},
            {
                "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
                "encoding": {"shape": looks["shape"], "description": {"field": "label", "type": "nominal"}},
            },
        ],
    }
    rows = [
        (
            title,
            str(step["concurrency"]),
            _rate(step["requests_per_s"]),
            _rate(step["tokens_per_s"]),
            duration_text(step["p50_s"]),
            duration_text(step["p95_s"]),
        )
        for _, title, steps in shown
        for step in steps
    ]
    summary = "Requests a second against requests at a time"
    return draw("Throughput", summary, spec, ("system", "at a time", "requests/s", "tokens/s", "p50", "p95"), rows)


def break_even_chart(cost: dict[str, Any]) -> Chart | None:
    """Dollars spent after so many requests: asking the teacher, or distilling once and asking the student."""
    prices = {system: found["dollars"] for system, found in cost["per_1000_requests"].items()}
    teacher, student, once = prices.get("teacher"), prices.get("student"), cost["distillation"]["total"]
    if teacher is None or student is None or once is None or not cost["break_even_requests"]:
        return None
    even = cost["break_even_requests"]
    ways = (("teacher", "asking the teacher", 0.0, teacher), ("student", "distilling, then the student", once, student))
    data = [
        {"system": title, "requests": requests, "dollars": start + requests / 1000 * price}
        for _, title, start, price in ways
        for requests in (0, even, 2 * even)
    ]
    at = once + even / 1000 * student
    looks = by_system([(key, title) for key, title, _, _ in ways])
    point = {"requests": even, "dollars": at, "label": f"even after {even:,} requests, at ${at:,.2f}"}
    spec = {
        "height": 260,
        "layer": [
            {
                "data": values(data),
                "mark": {"type": "line", "strokeWidth": 2, "aria": False},
                "encoding": {
                    "x": quantity("requests", "requests", axis=count_axis(2 * even)),
                    "y": quantity("dollars", "dollars in all", axis={"format": "$~s"}),
                    "color": looks["color"],
                },
            },
            {
                "data": values([point]),
                "mark": {"type": "point", "filled": True, "size": 100, "color": "var(--ink)", "opacity": 1},
                "encoding": {"x": quantity("requests"), "y": quantity("dollars"), "description": {"field": "label", "type": "nominal"}},
            },
        ],
    }
    rows = [(row["system"], f"{row['requests']:,}", f"${row['dollars']:,.2f}") for row in data]
    return draw("Break-even", f"Dollars in all against requests: even after {even:,}", spec, ("way", "requests", "dollars in all"), rows)


def _samples(timing: dict[str, Any]) -> list[float]:
    samples: list[float] = timing.get("latency_s", {}).get("samples", [])
    return samples


def _rate(rate: float) -> str:
    return f"{rate:.3g}" if rate < 100 else f"{rate:,.0f}"

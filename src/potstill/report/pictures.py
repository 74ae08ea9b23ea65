"""Which charts a report has: each is drawn where its figures are there, and left out where they are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.report.charts import Point
from potstill.report.charts.base import Chart
from potstill.report.charts.quality import (
    Systems,
    calibration_chart,
    confusion_chart,
    judge_chart,
    scores_chart,
    slices_chart,
)
from potstill.report.charts.tradeoff import break_even_chart, latency_chart, pareto_chart, throughput_chart
from potstill.report.charts.training import curve_chart, drops_chart
from potstill.report.table import OVER_THE_WIRE, measured

Series = tuple[Sequence[Point], Mapping[str, Sequence[Point]]]
Report = dict[str, Any]

MEMORY = (
    ("peak_gpu_bytes", "peak memory of the accelerator"),
    ("peak_above_empty_bytes", "peak memory above the empty process"),
    ("weights_bytes", "weights in memory"),
)
"""What stands for a system's memory, the better measure first; systems are compared by one of them alone."""


def systems_of(report: Report) -> Systems:
    """(key, title) of each system, in the order of the report; a title that several have is told apart by the key."""
    systems = report["evaluation"]["systems"]
    titles = [found.get("title", key) for key, found in systems.items()]
    return [(key, title if titles.count(title) == 1 else f"{title} ({key})") for key, title in zip(systems, titles, strict=True)]


def score_charts(report: Report) -> list[Chart]:
    """A chart for each metric, and one for agreement with the teacher."""
    evaluation, systems = report["evaluation"], systems_of(report)
    charts = [
        scores_chart(
            metric["title"],
            {key: found["scores"][name] for key, found in evaluation["systems"].items() if name in found["scores"]},
            systems,
        )
        for name, metric in evaluation["metrics"].items()
    ]
    agreement = evaluation["agreement"]
    if agreement is not None:
        charts.append(scores_chart(f"Agreement with the teacher ({agreement['title']})", agreement["scores"], systems))
    return _drawn(charts)


def slice_charts(report: Report) -> list[Chart]:
    """What was kept in each slice, a chart for each kind of slice."""
    evaluation = report["evaluation"]
    slices = evaluation.get("slices", [])
    title = primary_title(report)
    kinds = dict.fromkeys(one["by"] for one in slices)
    return _drawn([slices_chart(kind, [one for one in slices if one["by"] == kind], title) for kind in kinds])


def confusion_charts(report: Report) -> list[Chart]:
    """A matrix for each system that has one."""
    found = report["evaluation"].get("confusion", {})
    return [confusion_chart(title, found[key]) for key, title in systems_of(report) if key in found]


def calibration_charts(report: Report) -> list[Chart]:
    """Stated confidence against what came true."""
    return _drawn([calibration_chart(report["evaluation"].get("calibration", {}), systems_of(report))])


def judge_charts(report: Report) -> list[Chart]:
    """The judge's verdicts, where there was a judge."""
    judge = report["evaluation"].get("judge")
    return [judge_chart(judge)] if judge else []


def tradeoff_charts(report: Report) -> list[Chart]:
    """The first metric against latency and against memory."""
    title, memory = primary_title(report), memory_key(report)
    latency = pareto_chart(f"{title} against latency", title, "median latency", "s", _points(report, "p50_s"))
    return _drawn([latency, pareto_chart(f"{title} against memory", title, dict(MEMORY)[memory], "B", _points(report, memory))])


def speed_charts(report: Report) -> list[Chart]:
    """How long single answers take, and how many are answered at a time."""
    timings, systems = report["timings"]["systems"], _timed(report)
    return _drawn([latency_chart(timings, systems), throughput_chart(timings, systems)])


def cost_charts(report: Report) -> list[Chart]:
    """When the distillation has paid for itself."""
    cost = report.get("cost")
    return _drawn([break_even_chart(cost)]) if cost else []


def training_charts(report: Report, series: Series) -> list[Chart]:
    """Loss and validation metrics over the steps."""
    losses, validation = series
    chosen = report["training"].get("best_step")
    charts = [curve_chart("Loss on the training rows", losses, marks=False)]
    for name, points in validation.items():
        title = report["evaluation"]["metrics"].get(name, {"title": name})["title"]
        charts.append(curve_chart(f"{title} on validation rows", points, marks=True, chosen=chosen))
    return _drawn(charts)


def drop_charts(report: Report) -> list[Chart]:
    """Why answers of the teacher were dropped."""
    return _drawn([drops_chart(report["generation"]["dropped"])])


def primary_title(report: Report) -> str:
    """The title of the metric that leads: the first, else agreement with the teacher."""
    evaluation = report["evaluation"]
    if evaluation["primary"] is None:
        return f"agreement with the teacher ({evaluation['agreement']['title']})"
    title: str = evaluation["metrics"][evaluation["primary"]]["title"]
    return title


def memory_key(report: Report) -> str:
    """The best measure of memory that both teacher and student have, else that the student has, as beside a teacher over the wire."""
    for systems in (("teacher", "student"), ("student",)):
        for key, _ in MEMORY:
            if all(measured(report, system).get(key) for system in systems):
                return key
    return MEMORY[-1][0]


def _timed(report: Report) -> Systems:
    """The systems, those marked whose times hold a network."""
    return [
        (key, f"{title} (over the wire)" if measured(report, key).get("where") == OVER_THE_WIRE else title)
        for key, title in systems_of(report)
    ]


def _points(report: Report, key: str) -> list[dict[str, Any]]:
    evaluation, points = report["evaluation"], []
    primary = evaluation["primary"]
    for system, title in _timed(report) if key == "p50_s" else systems_of(report):
        score = evaluation["systems"][system]["scores"].get(primary) if primary else evaluation["agreement"]["scores"].get(system)
        x = measured(report, system).get(key)
        if score is not None and score["value"] is not None and x:
            points.append({"key": system, "system": title, "x": x, "value": score["value"], "interval": score["interval"]})
    return points


def _drawn(charts: Sequence[Chart | None]) -> list[Chart]:
    return [chart for chart in charts if chart is not None]

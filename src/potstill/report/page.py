"""`report.html`, drawn from the content of `report.json`, test rows and training figures alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from potstill.report.charts import Curve, IntervalChart, Point, curve, interval_chart
from potstill.report.facts import distillation_sentence, facts, measured_note, yaml_text
from potstill.report.table import bracket_text, comparison_table, headline, kept_text
from potstill.report.trust import leak_sentences
from potstill.report.units import MISSING, count_text, percent_text, score_text

Series = tuple[Sequence[Point], Mapping[str, Sequence[Point]]]

_SUMMARY_CHARACTERS = 160
_ROLES = {"system": "system", "user": "prompt", "assistant": "earlier answer"}


def render_html(report: dict[str, Any], rows: Sequence[dict[str, Any]], series: Series) -> str:
    """The report as one self-contained page: everything from models and data is escaped, nothing is loaded.

    `rows` are those of `gather.question_rows`, `series` the figures of `gather.training_series`.
    """
    environment = Environment(loader=PackageLoader("potstill.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template("report.html.j2").render(
        report=report,
        headline=headline(report),
        table=comparison_table(report),
        measured_note=measured_note(report),
        distillation=distillation_sentence(report),
        leaks=leak_sentences(report),
        intervals=_interval_charts(report),
        estimates=_estimate_rows(report),
        curves=_curves(report, series),
        generation_note=_generation_note(report),
        drops=sorted(report["generation"]["dropped"].items(), key=lambda drop: -drop[1]),
        rows=[_row(row) for row in rows],
        facts=facts(report),
        spec_yaml=yaml_text(report["spec"]),
        versions=yaml_text(report["versions"]),
    )


def _interval_charts(report: dict[str, Any]) -> list[IntervalChart]:
    evaluation = report["evaluation"]
    charts = [
        interval_chart(metric["title"], {system: found["scores"][name] for system, found in evaluation["systems"].items()})
        for name, metric in evaluation["metrics"].items()
    ]
    agreement = evaluation["agreement"]
    if agreement is not None:
        charts.append(interval_chart(f"agreement with teacher ({agreement['title']})", agreement["scores"]))
    return [chart for chart in charts if chart is not None]


def _estimate_rows(report: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for name, systems in report["evaluation"]["comparisons"].items():
        student = systems.get("student", {})
        gain, recovered = student.get("gain"), student.get("gap_recovered")
        cells = (kept_text(student.get("retention")).removeprefix("kept "), _gain_text(gain), _share_text(recovered))
        if student:
            rows.append((report["evaluation"]["metrics"][name]["title"], *cells))
    return rows


def _gain_text(gain: dict[str, Any] | None) -> str:
    if gain is None or gain["value"] is None:
        return MISSING
    return f"{'+' if gain['value'] > 0 else ''}{score_text(gain['value'])}{bracket_text(gain['interval'])}"


def _share_text(estimate: dict[str, Any] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return MISSING
    return percent_text(estimate["value"]) + bracket_text(estimate["interval"], 100)


def _curves(report: dict[str, Any], series: Series) -> list[Curve]:
    losses, validation = series
    curves = [curve("loss on the training rows", losses)]
    for name, points in validation.items():
        title = report["evaluation"]["metrics"].get(name, {"title": name})["title"]
        curves.append(curve(f"{title} on validation rows", points))
    return [found for found in curves if found is not None]


def _generation_note(report: dict[str, Any]) -> str:
    generation = report["generation"]
    rows = generation["rows"]["train"]
    tokens = generation["input_tokens"] + generation["output_tokens"]
    price = "of unknown price" if generation["dollars"] is None else f"for ${generation['dollars']:,.2f}"
    return (
        f"{rows['accepted']:,} of {rows['asked']:,} training rows have an answer that was kept."
        f" {generation['calls']:,} calls, {count_text(tokens)} tokens, {price}."
    )


def _row(row: dict[str, Any]) -> dict[str, Any]:
    prompt = next((message["content"] for message in reversed(row["messages"]) if message["role"] == "user"), "")
    entries = [(_ROLES[message["role"]], message["content"]) for message in row["messages"]]
    entries += [("reference", reference) for reference in row["references"]]
    entries += [(system, _reply_text(reply)) for system, reply in row["replies"].items()]
    summary = " ".join(prompt.split())
    return {"title": summary if len(summary) <= _SUMMARY_CHARACTERS else summary[: _SUMMARY_CHARACTERS - 1] + "…", "entries": entries}


def _reply_text(reply: dict[str, Any]) -> str:
    remarks = {"error": "(the call failed)", "no_room": "(no room for the prompt)", "length": "(cut at the token limit)"}
    parts = [reply["text"], remarks.get(reply["finish_reason"], "")]
    if reply["answer"] is None and reply["finish_reason"] not in ("error", "no_room"):
        parts.append("(no answer in it)")
    return " ".join(part for part in parts if part)

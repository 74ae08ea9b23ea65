"""`report.html` and `model_card.md`, drawn from the content of `report.json`, test rows and training figures alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from potstill.report.charts import Curve, IntervalChart, Point, curve, interval_chart
from potstill.report.table import bracket_text, comparison_table, headline, kept_text
from potstill.report.units import MISSING, bytes_text, count_text, duration_text, percent_text, score_text

Series = tuple[Sequence[Point], Mapping[str, Sequence[Point]]]

_SUMMARY_CHARACTERS = 160
_HUB_LICENCES = {"Apache-2.0": "apache-2.0", "MIT": "mit"}
"""Licences that ask nothing of a derived model but to be named; any other is for its owner to state."""
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
        measured_note=_measured_note(report),
        distillation=_distillation(report),
        intervals=_interval_charts(report),
        estimates=_estimate_rows(report),
        curves=_curves(report, series),
        generation_note=_generation_note(report),
        drops=sorted(report["generation"]["dropped"].items(), key=lambda drop: -drop[1]),
        rows=[_row(row) for row in rows],
        facts=_facts(report),
        spec_yaml=_yaml(report["spec"]),
        versions=_yaml(report["versions"]),
    )


def render_card(report: dict[str, Any]) -> str:
    """The student's model card in the hub's format: YAML front matter, then what it is, how good, and how it was made."""
    environment = Environment(loader=PackageLoader("potstill.report"), autoescape=False, undefined=StrictUndefined, trim_blocks=True)
    table = comparison_table(report)
    return environment.get_template("model_card.md.j2").render(
        report=report,
        front_matter=_yaml(_front_matter(report)).strip(),
        headline=headline(report),
        columns=table.columns,
        rows=[[_cell(cell) for cell in row] for row in table.rows],
        caption=table.caption,
        measured_note=_measured_note(report),
        distillation=_distillation(report),
        facts=_facts(report),
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


def _distillation(report: dict[str, Any]) -> str | None:
    return report["distillation"]["sentence"] if "distillation" in report else None


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


def _measured_note(report: dict[str, Any]) -> str:
    machine = report["machine"]
    threads = {str(found["threads"]) for found in report["timings"]["systems"].values() if "threads" in found}
    note = f"Measured on {machine['processor']}, {machine['cores']} cores, {machine['system']}"
    if threads:
        note += f"; local models each in a process of their own, {', '.join(sorted(threads))} threads"
    return note + "."


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


def _facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    machine, spec = report["machine"], report["spec"]
    facts = [
        ("teacher", str(spec["teacher"]["model"])),
        *([("teacher adapted", _adaptation_text(report))] if "adaptation" in report else []),
        ("student", _origin(report)),
        *((f"{role}'s licence", str(known["licence"])) for role, known in report["models"].items() if known["licence"]),
        *(
            (f"{role}'s terms on distillation", str(known["distillation"]))
            for role, known in report["models"].items()
            if known["distillation"]
        ),
        ("task", str(spec["task"]["type"])),
        ("seed", str(report["seed"])),
        ("processor", f"{machine['processor']}, {machine['cores']} cores"),
    ]
    if machine["memory_bytes"] is not None:
        facts.append(("memory", bytes_text(machine["memory_bytes"])))
    facts.append(("system", f"{machine['system']}, Python {machine['python']}"))
    stages = report["timings"]["stages"]
    if stages:
        facts.append(("time", ", ".join(f"{stage} {duration_text(seconds)}" for stage, seconds in stages.items())))
    return facts


def _adaptation_text(report: dict[str, Any]) -> str:
    """On how many rows, and what it did to the validation score."""
    adapted = report["adaptation"]
    text = f"fine-tuned on the references of {adapted['gold_rows']:,} training rows before it was asked"
    if adapted["metric"] is None:
        return f"{text}; no validation row has a reference to tell what that did"
    title = report["evaluation"]["metrics"].get(adapted["metric"], {"title": adapted["metric"]})["title"]
    before, after = score_text(adapted["metric_before"]), score_text(adapted["best_metric"])
    return f"{text}; {title} on {adapted['validation_questions']:,} validation questions {before} before, {after} after"


def _origin(report: dict[str, Any]) -> str:
    student, teacher = report["spec"]["student"], report["spec"]["teacher"]
    source = student["model"] or teacher["model"]
    return f"{student['carve']['layers']} layers carved out of {source}" if student["carve"] else str(source)


def _front_matter(report: dict[str, Any]) -> dict[str, Any]:
    base = report["models"]["student"]
    front: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    # The hub takes its own names alone; a folder is told in the text.
    if base["hub_id"] is not None:
        front["base_model"] = base["hub_id"]
    if base["licence"] in _HUB_LICENCES:
        front["license"] = _HUB_LICENCES[base["licence"]]
    front["tags"] = ["potstill", "distillation", report["spec"]["task"]["type"]]
    results = _model_index(report)
    if results:
        front["model-index"] = [{"name": report["name"], "results": results}]
    return front


def _model_index(report: dict[str, Any]) -> list[dict[str, Any]]:
    evaluation, task = report["evaluation"], report["spec"]["task"]["type"]
    student = evaluation["systems"].get("student", {"scores": {}})
    metrics = [
        {"type": name, "name": evaluation["metrics"][name]["title"], "value": round(score["value"], 6)}
        for name, score in student["scores"].items()
        if score["value"] is not None
    ]
    if not metrics:
        return []
    dataset = {"type": "private", "name": f"{report['name']} test split ({evaluation['rows']} rows)"}
    return [{"task": {"type": "text-generation", "name": task}, "dataset": dataset, "metrics": metrics}]


def _yaml(value: object) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

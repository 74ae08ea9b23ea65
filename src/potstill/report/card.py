"""`model_card.md`: the student's card in the hub's format."""

from __future__ import annotations

from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from potstill.report.facts import distillation_sentence, how_made, measured_note
from potstill.report.table import comparison_table, headline

_HUB_LICENCES = {"Apache-2.0": "apache-2.0", "MIT": "mit"}
"""Licences that ask nothing of a derived model but to be named; any other is for its owner to state."""


def render_card(report: dict[str, Any]) -> str:
    """The student's model card in the hub's format: YAML front matter, then what it is, how good, and how it was made."""
    environment = Environment(loader=PackageLoader("potstill.report"), autoescape=False, undefined=StrictUndefined, trim_blocks=True)
    table = comparison_table(report)
    return environment.get_template("model_card.md.j2").render(
        report=report,
        front_matter=yaml.safe_dump(_front_matter(report), sort_keys=False, allow_unicode=True).strip(),
        headline=headline(report),
        columns=table.columns,
        rows=[[_cell(cell) for cell in row] for row in table.rows],
        caption=table.caption,
        measured_note=measured_note(report),
        distillation=distillation_sentence(report),
        facts=how_made(report),
    )


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


def _cell(text: str) -> str:
    return text.replace("|", "\\|")

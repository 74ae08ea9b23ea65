"""`report.html`, drawn from the content of `report.json`, test rows, training figures and file hashes alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from potstill.report import pictures, sections
from potstill.report.charts.base import can_draw
from potstill.report.facts import distillation_sentence, how_made, measured_note, yaml_text
from potstill.report.rows import as_script_data, browser_rows, fitting
from potstill.report.table import comparison_table, headline
from potstill.report.trust import leak_sentences


def render_html(
    report: dict[str, Any], rows: Sequence[dict[str, Any]], series: pictures.Series, files: Mapping[str, str] | None = None
) -> str:
    """The report as one self-contained page: everything from models and data is escaped, nothing is loaded.

    `rows` are those of `gather.question_rows`, `series` the figures of `gather.training_series`, `files` the SHA-256 of each file of the
    run. The page's own style and script are the only ones that its policy lets run: by their hashes.
    """
    environment = Environment(
        loader=PackageLoader("potstill.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style, script = _own("report.css"), _own("report.js")
    rows = fitting(rows)
    return environment.get_template("report.html.j2").render(
        report=report,
        evaluation=report["evaluation"],
        style=Markup(style),
        script=Markup(script),
        policy=_policy(style, script),
        headline=headline(report),
        table=comparison_table(report),
        measured_note=measured_note(report),
        distillation=distillation_sentence(report),
        leak_sentences=leak_sentences(report),
        drawn=can_draw(),
        pictures=pictures,
        sections=sections,
        series=series,
        rows=as_script_data(browser_rows(rows, report["evaluation"], pictures.systems_of(report))),
        shown=len(rows),
        facts=how_made(report),
        spec_yaml=yaml_text(report["spec"]),
        versions=yaml_text(report["versions"]),
        files=dict(files or {}),
    )


def _policy(style: str, script: str) -> str:
    """Nothing may be loaded, sent or run but this style and this script."""
    own = f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    return f"default-src 'none'; {own}; img-src data:; base-uri 'none'; form-action 'none'"


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _own(name: str) -> str:
    return resources.files("potstill.report").joinpath("static", name).read_text(encoding="utf-8")

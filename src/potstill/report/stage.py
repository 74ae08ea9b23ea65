"""Stage 5: `report.json`, `report.html`, `model_card.md`, `manifest.json` in the run folder."""

from __future__ import annotations

from pathlib import Path

from potstill.report.card import render_card
from potstill.report.gather import gather_report, question_rows, training_series
from potstill.report.manifest import MANIFEST, build_manifest, made_by_stages, other_files
from potstill.report.page import render_html
from potstill.report.table import headline
from potstill.store.atomic import write_json, write_text
from potstill.store.events import StageName
from potstill.store.run import Run

NAME: StageName = "report"
DISCARD: tuple[str, ...] = ()

_ROWS_SHOWN = 5_000
"""Test questions that the page lets its reader look through: some megabytes at most."""


def inputs(run: Run) -> dict[str, object]:
    """The whole spec, everything that the other stages made, and what else the manifest lists."""
    return {"spec": run.spec.model_dump(mode="json"), "files": made_by_stages(run), "others": other_files(run, outputs(run))}


def outputs(run: Run) -> list[Path]:
    """The four files, in the run folder itself."""
    return [run.path(name) for name in ("report.json", "report.html", "model_card.md", MANIFEST)]


def work(run: Run, resumed: bool) -> str:
    """Write the four files from what the stages left; nothing is computed anew, so the figures are theirs."""
    del resumed  # it takes seconds
    report = gather_report(run)
    write_json(run.path("report.json"), report)
    write_text(run.path("report.html"), render_html(report, question_rows(run, _ROWS_SHOWN), training_series(run), made_by_stages(run)))
    write_text(run.path("model_card.md"), render_card(report))
    write_json(run.path(MANIFEST), build_manifest(run, report, outputs(run)))
    told = [report["distillation"]["sentence"]] if "distillation" in report else []
    return " ".join([headline(report), *told])

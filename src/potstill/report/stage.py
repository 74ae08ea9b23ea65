"""Stage 5: `report.json`, `report.html`, `model_card.md`, `manifest.json` in the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from potstill.report.card import render_card
from potstill.report.gather import gather_report, question_rows, training_series
from potstill.report.page import render_html
from potstill.report.table import headline
from potstill.store.atomic import fingerprint, hash_file, write_json, write_text
from potstill.store.events import StageName
from potstill.store.run import Run

NAME: StageName = "report"
DISCARD: tuple[str, ...] = ()

_ROWS_SHOWN = 5_000
"""Test questions that the page lets its reader look through: some megabytes at most."""

_UPSTREAM: tuple[StageName, ...] = ("data", "adapt", "generate", "train", "evaluate")


def inputs(run: Run) -> dict[str, object]:
    """The whole spec, and everything that the other stages made."""
    return {"spec": run.spec.model_dump(mode="json"), "files": _made(run)}


def outputs(run: Run) -> list[Path]:
    """The four files, in the run folder itself."""
    return [run.path(name) for name in ("report.json", "report.html", "model_card.md", "manifest.json")]


def work(run: Run, resumed: bool) -> str:
    """Write the four files from what the stages left; nothing is computed anew, so the figures are theirs."""
    del resumed  # it takes seconds
    report = gather_report(run)
    write_json(run.path("report.json"), report)
    write_text(run.path("report.html"), render_html(report, question_rows(run, _ROWS_SHOWN), training_series(run), _made(run)))
    write_text(run.path("model_card.md"), render_card(report))
    write_json(run.path("manifest.json"), _manifest(run, report))
    told = [report["distillation"]["sentence"]] if "distillation" in report else []
    return " ".join([headline(report), *told])


def _manifest(run: Run, report: dict[str, Any]) -> dict[str, Any]:
    """Where the student comes from: the hash of every file of the run, of the spec, the seed, the package versions."""
    own = {path.name: hash_file(path) for path in outputs(run) if path.name != "manifest.json"}
    return {
        "schema_version": 1,
        "name": run.spec.name,
        "seed": run.spec.seed,
        "spec": fingerprint(report["spec"]),
        "teacher": report["spec"]["teacher"]["model"],
        "versions": report["versions"],
        "files": {**_made(run), **own},
    }


def _upstream(run: Run) -> list[StageName]:
    return [name for name in _UPSTREAM if name != "adapt" or run.spec.teacher.adapt is not None]


def _made(run: Run) -> dict[str, str]:
    return {path: digest for stage in _upstream(run) for path, digest in run.stage(stage).outputs().items()}

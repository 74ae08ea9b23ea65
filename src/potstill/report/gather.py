"""From what the stages left in the run folder to the content of `report.json`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from potstill.models import catalogue
from potstill.report.charts import Point
from potstill.report.distillation import told
from potstill.report.machine import describe_machine, package_versions
from potstill.spec import RunSpec
from potstill.store.atomic import read_json, read_jsonl
from potstill.store.events import StageFinished, read_events
from potstill.store.run import Run
from potstill.verdicts import judge_quality

SCHEMA_VERSION = 1
CLOCK_KEYS = ("seconds", "tokens_per_s")
"""Keys of the stages' summaries that the clock decides; the report keeps them under `timings`."""


def gather_report(run: Run) -> dict[str, Any]:
    """The content of `report.json`. What the clock or the machine decides stands under `timings` and `machine`.

    Keys: `schema_version`, `potstill`, `name`, `seed`, `evaluation` (`scores.json` without its timings), `data`, `generation`,
    `training` (what those stages wrote of themselves), `adaptation` (likewise, where the teacher was adapted), `sft` and `distillation`
    (where the student is compared with plain fine-tuning), `spec` (without anybody's folders), `models` (what the catalogue knows of them),
    `versions`, `machine`, `timings`.
    """
    evaluation = read_json(run.path("evaluation", "scores.json"))
    systems = evaluation.pop("timings")
    # The spec's goals of now: a goal that was changed asks and measures nothing anew.
    evaluation["goals"] = judge_quality(run.spec.goals.quality(), evaluation)
    parts = {
        "data": _public_sources(read_json(run.path("data", "manifest.json"))),
        "generation": read_json(run.path("generation", "usage.json")),
        "training": read_json(run.path("training", "summary.json")),
    }
    compared = run.path("training", "sft", "summary.json")
    if compared.exists():
        parts["sft"] = read_json(compared)
    if run.spec.teacher.adapt is not None:
        parts["adaptation"] = read_json(run.path("adaptation", "summary.json"))
    steady, clock = {}, {}
    for name, part in parts.items():
        steady[name] = {key: value for key, value in part.items() if key not in CLOCK_KEYS}
        clock[name] = {key: value for key, value in part.items() if key in CLOCK_KEYS}
    versions = package_versions()
    if run.spec.training.compare_with_sft:
        steady["distillation"] = told(evaluation)
    return {
        "schema_version": SCHEMA_VERSION,
        "potstill": versions.get("potstill", "unknown"),
        "name": run.spec.name,
        "seed": run.spec.seed,
        "evaluation": evaluation,
        **steady,
        "spec": public_spec(run.spec),
        "models": {"teacher": _known(run.spec.teacher.model), "student": _known(run.spec.student.model or run.spec.teacher.model)},
        "versions": versions,
        "machine": describe_machine(),
        "timings": {"systems": systems, "stages": _stage_seconds(run), **{name: found for name, found in clock.items() if found}},
    }


def public_spec(spec: RunSpec) -> dict[str, Any]:
    """The spec for other people's eyes: files by name without their folders, addresses without user and query, headers without values."""
    public: dict[str, Any] = spec.model_dump(mode="json")
    for section, key in (
        ("data", "train"),
        ("data", "validation"),
        ("data", "test"),
        ("teacher", "chat_template"),
        ("student", "chat_template"),
    ):
        if public[section][key] is not None:
            public[section][key] = Path(public[section][key]).name
    for section in ("teacher", "student"):
        public[section]["model"] = model_title(public[section]["model"])
    teacher = public["teacher"]
    teacher["headers"] = dict.fromkeys(teacher["headers"], "…")
    del teacher["api_key_file"], teacher["api_key_env"]
    if teacher["base_url"] is not None:
        teacher["base_url"] = _public_address(teacher["base_url"])
    return public


def model_title(model: str | None) -> str | None:
    """A model's name as others may read it: that of a local file or folder without the folders above."""
    return Path(model).name if model is not None and Path(model).is_absolute() else model


def question_rows(run: Run, limit: int) -> list[dict[str, Any]]:
    """The first `limit` test questions, each with what every system replied.

    Keys: `id`, `messages`, `references`, `replies` (by system: `text`, `answer`, `finish_reason`).
    """
    rows = [dict(row) for row in islice(read_jsonl(run.path("evaluation", "questions.jsonl")), limit)]
    for row in rows:
        row["replies"] = {}
    for system in _answered(run):
        for row, reply in zip(rows, read_jsonl(run.path("evaluation", "predictions", f"{system}.jsonl")), strict=False):
            row["replies"][system] = {key: reply[key] for key in ("text", "answer", "finish_reason")}
    return rows


def _answered(run: Run) -> list[str]:
    return list(read_json(run.path("evaluation", "scores.json"))["systems"])


def training_series(run: Run) -> tuple[list[Point], dict[str, list[Point]]]:
    """What training wrote by step: (step, loss) pairs, and (step, value) pairs by validation metric, in order."""
    losses: list[Point] = []
    validation: dict[str, list[Point]] = {}
    for row in read_jsonl(run.path("training", "metrics.jsonl")):
        if "loss" in row:
            losses.append((row["step"], row["loss"]))
        for name, value in row.get("validation", {}).items():
            validation.setdefault(name, []).append((row["step"], value))
    return losses, validation


def _known(model: str) -> dict[str, str | None]:
    """Hub id, licence and terms of a model that the catalogue lists; a hub id that it does not list stands for itself."""
    entry = catalogue.find(model)
    if entry is None:
        return {"hub_id": model if model.count("/") == 1 and not Path(model).exists() else None, "licence": None, "distillation": None}
    return {"hub_id": entry.hub_id, "licence": entry.licence, "distillation": entry.distillation}


def _public_sources(manifest: dict[str, Any]) -> dict[str, Any]:
    sources = {split: {**source, "path": Path(source["path"]).name} for split, source in manifest["sources"].items()}
    return {**manifest, "sources": sources}


def _stage_seconds(run: Run) -> dict[str, float]:
    """Seconds of each stage's last finished attempt."""
    finished = (event for event in read_events(run.path("events.jsonl")) if isinstance(event, StageFinished))
    return {event.stage: event.seconds for event in finished}


def _public_address(address: str) -> str:
    parts = urlsplit(address)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))

"""From what the stages left in the run folder to the content of `report.json`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from potstill.models import catalogue
from potstill.report.charts import Point
from potstill.report.cost import Measured, reckon_cost
from potstill.report.distillation import told
from potstill.report.goals import judge_goals
from potstill.report.machine import describe_machine, package_versions
from potstill.spec import RunSpec
from potstill.spec.sections import Section, TeacherSpec, WeightsSpec
from potstill.store.atomic import read_json, read_jsonl
from potstill.store.events import StageFinished, read_events
from potstill.store.run import Run
from potstill.store.seal import seal_to_json

SCHEMA_VERSION = 1
CLOCK_KEYS = ("seconds", "tokens_per_s")
"""Keys of the stages' summaries that the clock decides; the report keeps them under `timings`."""
_REPLY_KEYS = ("text", "answer", "finish_reason", "scores", "probabilities")


def gather_report(run: Run) -> dict[str, Any]:
    """The content of `report.json`. What the clock or the machine decides stands under `timings` and `machine`, under `cost` where a
    machine is paid by the hour, and in the goals about time, memory, cost and users.

    Keys: `schema_version`, `potstill`, `name`, `seed`, `evaluation` (`scores.json` without its timings), `seal` (who opened the test
    rows), `leaks` (what is learnt of them), `data`, `generation`, `training` (what those stages wrote of themselves), `adaptation`
    (likewise, where the teacher was adapted), `sft` and `distillation` (where the student is compared with plain fine-tuning), `cost`
    (`reckon_cost`), `spec` (without anybody's folders), `models` (what the catalogue knows of them), `versions`, `machine`, `timings`.
    """
    evaluation = read_json(run.path("evaluation", "scores.json"))
    systems = evaluation.pop("timings")
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
    stages = _stage_seconds(run)
    cost = reckon_cost(run.spec, Measured(evaluation, systems, stages, parts["generation"]))
    # The spec's goals of now: a goal that was changed asks and measures nothing anew.
    evaluation["goals"] = judge_goals(run.spec.goals, evaluation, systems, cost)
    if run.spec.training.compare_with_sft:
        steady["distillation"] = told(evaluation)
    return {
        "schema_version": SCHEMA_VERSION,
        "potstill": versions.get("potstill", "unknown"),
        "name": run.spec.name,
        "seed": run.spec.seed,
        "evaluation": evaluation,
        "seal": seal_to_json(run),
        "leaks": _leaks(run),
        **steady,
        "cost": cost,
        "spec": public_spec(run.spec),
        "models": {
            "teacher": known_model(run.spec.teacher.model),
            "student": known_model(run.spec.student.model or run.spec.teacher.model),
        },
        "versions": versions,
        "machine": describe_machine(),
        "timings": {"systems": systems, "stages": stages, **{name: found for name, found in clock.items() if found}},
    }


def public_spec(spec: RunSpec) -> dict[str, Any]:
    """The spec for other people's eyes: files by name without their folders, addresses without user and query, headers without values."""
    public: dict[str, Any] = _public(spec, spec.model_dump(mode="json"))
    return public


def _public(value: Any, shown: Any) -> Any:
    """What of a part of the spec others may see; `shown` is the same part as JSON. Goes by kind, not by place: sections become more."""
    if isinstance(value, Path):
        return value.name if value.is_absolute() else shown
    if isinstance(value, list | tuple):
        return [_public(one, its) for one, its in zip(value, shown, strict=True)]
    if not isinstance(value, Section):
        return shown
    found = {name: _public(getattr(value, name), its) for name, its in shown.items()}
    if isinstance(value, WeightsSpec):
        found["model"] = model_title(found["model"])
    if isinstance(value, TeacherSpec):
        _hide_access(found)
    return found


def _hide_access(teacher: dict[str, Any]) -> None:
    """Take out of a model's section how it is reached by whom."""
    teacher["headers"] = dict.fromkeys(teacher["headers"], "…")
    del teacher["api_key_file"], teacher["api_key_env"]
    if teacher["base_url"] is not None:
        teacher["base_url"] = _public_address(teacher["base_url"])


def model_title(model: str | None) -> str | None:
    """A model's name as others may read it: that of a local file or folder without the folders above."""
    return Path(model).name if model is not None and Path(model).is_absolute() else model


def question_rows(run: Run, limit: int) -> list[dict[str, Any]]:
    """The first `limit` test questions, each with what every system replied.

    Keys: `id`, `messages`, `references`, `replies` (by system: `text`, `answer`, `finish_reason`, and `scores` and `probabilities` where
    there are some); `slices`, where the questions have them; `judged` (`outcome`, `reason`), where a judge compared the answers.
    """
    rows = [dict(row) for row in islice(read_jsonl(run.path("evaluation", "questions.jsonl")), limit)]
    verdicts = run.path("evaluation", "judge.jsonl")
    judged = {found["id"]: found for found in read_jsonl(verdicts)} if verdicts.exists() else {}
    for row in rows:
        row["replies"] = {}
        if row["id"] in judged:
            row["judged"] = {key: judged[row["id"]][key] for key in ("outcome", "reason")}
    for system in _answered(run):
        for row, reply in zip(rows, read_jsonl(run.path("evaluation", "predictions", f"{system}.jsonl")), strict=False):
            row["replies"][system] = {key: reply[key] for key in _REPLY_KEYS if key in reply}
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


def known_model(model: str) -> dict[str, str | None]:
    """Hub id, licence and terms of a model that the catalogue lists; a hub id that it does not list stands for itself."""
    entry = catalogue.find(model)
    if entry is None:
        return {"hub_id": model if model.count("/") == 1 and not Path(model).exists() else None, "licence": None, "distillation": None}
    return {"hub_id": entry.hub_id, "licence": entry.licence, "distillation": entry.distillation}


def _leaks(run: Run) -> dict[str, Any]:
    """Between train and test, and between the answers that were learnt and the test's references, as far as the run looked for them."""
    data, evaluation = run.path("data", "leaks.json"), run.path("evaluation", "leaks.json")
    found = {**(read_json(data) if data.exists() else {}), **(read_json(evaluation) if evaluation.exists() else {})}
    return {name: found[name] for name in ("train_test", "answers_references") if name in found}


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

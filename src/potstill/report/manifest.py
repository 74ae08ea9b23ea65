"""`manifest.json`: where a student comes from, and the hash of every file of its run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from potstill.report.gather import known_model, model_title
from potstill.spec.sections import GatesSpec
from potstill.store.atomic import fingerprint, hash_file, read_json
from potstill.store.events import StageName
from potstill.store.run import Run

SCHEMA_VERSION = 2
MANIFEST = "manifest.json"
WORKING_NAMES = ("events.jsonl", "stage.json")
WORKING_ENDINGS = (".sqlite", ".sqlite-wal", ".sqlite-shm")
WORKING_FOLDERS = ("generation/ablation/", "generation/workers/", "training/checkpoints/", "training/targets/")
"""What a run works with, and changes while it does, is no part of what it made: its log, ledgers, locks and caches."""

_UPSTREAM: tuple[StageName, ...] = ("data", "adapt", "generate", "train", "evaluate")


def files_of(folder: Path) -> list[str]:
    """The files of a run that a manifest lists, by their paths in the run folder, in order: all but those that it works with."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if not _is_working(name))


def made_by_stages(run: Run) -> dict[str, str]:
    """The hashes that the stages before the report have on record. Raises StoreError where one is not finished."""
    stages = [name for name in _UPSTREAM if name != "adapt" or run.spec.teacher.adapt is not None]
    return {path: digest for stage in stages for path, digest in run.stage(stage).outputs().items()}


def other_files(run: Run, own: Sequence[Path]) -> dict[str, str]:
    """The hashes of what else stands in the run folder, `own` files of the report aside."""
    known = {*made_by_stages(run), *(path.relative_to(run.folder).as_posix() for path in own)}
    return {name: hash_file(run.path(name)) for name in files_of(run.folder) if name not in known}


def build_manifest(run: Run, report: dict[str, Any], own: Sequence[Path]) -> dict[str, Any]:
    """The content of `manifest.json` beside the `own` files of the report.

    Keys: `schema_version`, `name`, `spec` (a fingerprint of what `report.json` holds of it), `seeds`, `made_with` (a fingerprint
    of Potstill's source, Python, packages), `data`, `prompts`, `teachers` (with licence and terms), `gates`, `student`, `seal`, `leaks`
    (counts), `files` (SHA-256 by path in the run folder).
    """
    written = [path for path in own if path.name != MANIFEST]
    files = {**made_by_stages(run), **other_files(run, own), **{path.name: hash_file(path) for path in written}}
    return {
        "schema_version": SCHEMA_VERSION,
        "name": run.spec.name,
        "spec": fingerprint(report["spec"]),
        "seeds": {"run": run.spec.seed, "bootstrap": report["evaluation"].get("seed")},
        "made_with": {"code": code_fingerprint(), "python": report["machine"]["python"], "packages": report["versions"]},
        "data": _data(report),
        "prompts": _prompts(run),
        "teachers": _teachers(run),
        "gates": _gates(run),
        "student": _student(report, files),
        "seal": report["seal"],
        "leaks": {name: {kind: found[kind] for kind in ("exact", "near", "paraphrase")} for name, found in report["leaks"].items()},
        "files": dict(sorted(files.items())),
    }


def code_fingerprint() -> str:
    """A fingerprint of Potstill's own source as it is installed: two of one version may differ."""
    folder = Path(__file__).parents[1]
    sources = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return fingerprint([[path.relative_to(folder).as_posix(), hash_file(path)] for path in sources])


def _is_working(name: str) -> bool:
    path = Path(name)
    hidden = any(part.startswith(".") for part in path.parts)
    return hidden or name == MANIFEST or path.name in WORKING_NAMES or name.endswith(WORKING_ENDINGS) or name.startswith(WORKING_FOLDERS)


def _data(report: dict[str, Any]) -> dict[str, Any]:
    kept = ("sources", "rows", "split_off", "duplicates_left_out", "seed")
    return {key: report["data"][key] for key in kept if key in report["data"]}


def _noted(run: Run) -> dict[str, Any]:
    """What generation noted of who was asked, in which words, by which gates; nothing where a test wrote the run by hand."""
    path = run.path("generation", "panel.json")
    found: dict[str, Any] = read_json(path) if path.exists() else {}
    return found


def _prompts(run: Run) -> dict[str, Any]:
    asked = run.spec.generation.prompting.model_dump(mode="json")
    wording = _noted(run).get("inputs", {}).get("wording")
    return {"task_instruction": run.spec.task.instruction, "asked_by": asked, "own_wording": wording}


def _teachers(run: Run) -> list[dict[str, Any]]:
    """Who answered; `identity` tells whether two runs asked the same weights or endpoint."""
    identities: dict[str, str] = _noted(run).get("teachers", {})
    return [
        {
            "model": model_title(teacher.title),
            **known_model(teacher.model),
            "adapted": teacher.adapt is not None,
            "identity": fingerprint(identities[teacher.title]) if teacher.title in identities else None,
        }
        for teacher in run.spec.all_teachers
    ]


def _gates(run: Run) -> dict[str, Any]:
    """The settings of those that are on, and the versions of all, in their order."""
    settings = run.spec.gates.model_dump(mode="json")
    on = {name: settings[name] for name in GatesSpec.model_fields if settings[name] not in (None, False, [])}
    return {"on": on, "versions": dict(_noted(run).get("gates", {}).get("order", []))}


def _student(report: dict[str, Any], files: dict[str, str]) -> dict[str, Any]:
    origin, about = report["spec"]["student"], report["models"]["student"]
    weights = {path: digest for path, digest in files.items() if path.startswith("training/best/") and path.endswith(".safetensors")}
    made_of = origin["model"] or report["spec"]["teacher"]["model"]
    return {"origin": made_of, "carve": origin["carve"], "hub_id": about["hub_id"], "licence": about["licence"], "weights": weights}

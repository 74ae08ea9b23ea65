"""A run folder against its manifest: every file is as it was, changed, missing, or not listed; and the command tells by its exit code."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from potstill.cli.main import app
from potstill.errors import StoreError
from potstill.report.manifest import files_of
from potstill.report.verify import verify_run
from potstill.store.atomic import hash_file, write_json

FILES = ("data/train.jsonl", "data/manifest.json", "training/best/model.safetensors", "report.json")
WORKING = (
    ".lock",
    "events.jsonl",
    "data/stage.json",
    "generation/ledger.sqlite",
    "generation/ledger.sqlite-wal",
    "generation/workers/0.jsonl",
    "generation/ablation/ab/result.json",
    "training/targets/0e/0.safetensors",
    "evaluation/.before/scores.json",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of four files, and of what it worked with."""
    for name in (*FILES, *WORKING):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    write_json(tmp_path / "manifest.json", {"name": "job", "files": {name: hash_file(tmp_path / name) for name in FILES}})
    return tmp_path


def verify(folder: Path, *options: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["verify", str(folder), *options], catch_exceptions=False)
    return result.exit_code, result.output


def damage(folder: Path) -> None:
    (folder / "data/train.jsonl").write_text("another row")
    (folder / "report.json").unlink()
    (folder / "training/best/extra.py").write_text("import os")


def test_a_run_that_nobody_touched_stands(folder: Path) -> None:
    found = verify_run(folder)
    assert found.files == dict.fromkeys(sorted(FILES), "ok")
    assert found.stands
    assert found.manifest == hash_file(folder / "manifest.json")


def test_each_file_has_its_status(folder: Path) -> None:
    damage(folder)
    found = verify_run(folder)
    assert found.files == {
        "data/manifest.json": "ok",
        "data/train.jsonl": "changed",
        "report.json": "missing",
        "training/best/extra.py": "not listed",
        "training/best/model.safetensors": "ok",
    }
    assert found.counts == {"ok": 2, "changed": 1, "missing": 1, "not listed": 1}
    assert not found.stands


def test_what_a_run_works_with_is_no_part_of_what_it_made(folder: Path) -> None:
    assert files_of(folder) == sorted(FILES)


def test_the_command_names_what_is_wrong_and_exits_with_1(folder: Path) -> None:
    assert verify(folder)[0] == 0
    damage(folder)
    code, said = verify(folder)
    assert code == 1
    assert said.splitlines()[:3] == [
        "changed     data/train.jsonl",
        "missing     report.json",
        "not listed  training/best/extra.py",
    ]
    assert "2 ok, 1 changed, 1 missing, 1 not listed" in said


def test_a_file_beside_the_listed_ones_is_a_failure_where_that_is_asked(folder: Path) -> None:
    (folder / "training/best/extra.py").write_text("import os")
    assert verify(folder)[0] == 0
    assert verify(folder, "--strict")[0] == 1


def test_json_holds_every_file(folder: Path) -> None:
    damage(folder)
    code, said = verify(folder, "--json")
    found = json.loads(said)
    assert (code, found["stands"], found["counts"]["changed"]) == (1, False, 1)
    assert found["files"]["training/best/model.safetensors"] == "ok"
    assert found["manifest"] == hash_file(folder / "manifest.json")


@pytest.mark.parametrize(
    ("content", "told"),
    [(None, "the run has no report yet; `potstill report SPEC` writes it"), ("{}", "does not hold what Potstill wrote")],
)
def test_without_a_manifest_what_to_run_is_said(folder: Path, content: str | None, told: str) -> None:
    (folder / "manifest.json").unlink()
    if content is not None:
        (folder / "manifest.json").write_text(content)
    with pytest.raises(StoreError, match=told):
        verify_run(folder)


def test_a_folder_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(StoreError, match="there is no such folder"):
        verify_run(folder / "none")

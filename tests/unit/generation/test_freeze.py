"""The accepted rows are frozen: in Parquet where that can be written, and under hashes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from slow_teacher import conversations, generate_by, open_run

from potstill.models.echo import EchoModel
from potstill.store.atomic import fingerprint, hash_file, read_json, read_jsonl
from potstill.store.run import Run

JSONL = ("accepted.jsonl", "rejected.jsonl", "validation.jsonl")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = open_run(tmp_path)
    refuse = "I can't help with that."
    teacher = EchoModel(lambda request: refuse if "train 30" in request.messages[-1].content else "Fine.", identity="x")
    generate_by(made, teacher, conversations(9), conversations(3, prefix="validation"))
    return made


def folder_of(run: Run) -> Path:
    return run.path("generation", "accepted.jsonl").parent


def test_the_manifest_tells_each_files_hash_and_rows_and_what_was_spent(run: Run) -> None:
    folder, manifest = folder_of(run), read_json(run.path("generation", "manifest.json"))
    for name in JSONL:
        assert manifest["files"][name] == {"sha256": hash_file(folder / name), "rows": len(list(read_jsonl(folder / name)))}
    assert manifest["files"]["rejected.jsonl"]["rows"] == 1
    assert manifest["spec"] == fingerprint(run.spec.model_dump(mode="json"))
    usage = read_json(folder / "usage.json")
    assert manifest["spent"] == {name: usage[name] for name in ("calls", "input_tokens", "output_tokens", "dollars")}


def test_the_parquet_file_holds_the_accepted_rows(run: Run) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = folder_of(run)
    rows = list(read_jsonl(folder / "accepted.jsonl"))
    found = parquet.read_table(folder / "accepted.parquet").to_pylist()
    assert [(row["id"], row["messages"], row["trained_turns"]) for row in found] == [
        (row["id"], row["messages"], row["trained_turns"]) for row in rows
    ]
    noted = read_json(folder / "manifest.json")["files"]["accepted.parquet"]
    assert noted == {"sha256": hash_file(folder / "accepted.parquet"), "rows": len(rows)}


def test_without_pyarrow_no_parquet_of_other_rows_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_run(tmp_path)
    stale = run.path("generation", "accepted.parquet")
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.write_bytes(b"older")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    generate_by(run, EchoModel(lambda _: "Fine.", identity="x"), conversations(3))
    assert not stale.exists()
    assert set(read_json(run.path("generation", "manifest.json"))["files"]) == set(JSONL)

"""`potstill targets`: the teacher speaks once; then it may go, and the student is trained all the same."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from test_verbs import call
from typer.testing import CliRunner

from potstill.cli.main import app
from tiny import tiny_llama

LABELS = ("warm", "cold")


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A spec whose teacher has a name, as one from a hub has, and not a place."""
    for split, count in (("train", 8), ("validation", 3), ("test", 3)):
        rows = [{"prompt": f"{split} {i}: is {i * 37} {split[::-1]} {i} warm?", "completion": LABELS[i % 2]} for i in range(count)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tiny_llama(tmp_path / "teacher", layers=2)
    (tmp_path / "catalogue.yaml").write_text(yaml.safe_dump({"big": {"path": str(tmp_path / "teacher")}}))
    monkeypatch.setenv("POTSTILL_CATALOGUE", str(tmp_path / "catalogue.yaml"))
    spec = {
        "name": "job",
        "task": {"type": "nli", "labels": list(LABELS), "max_new_tokens": 3},
        "data": {split: f"{split}.jsonl" for split in ("train", "validation", "test")},
        "teacher": {"model": "big"},
        "student": {"carve": {"layers": 1}},
        "gates": {"format": False, "truncation": False},
        "training": {"epochs": 2, "batch_size": 4, "evaluations": 1},
        "evaluation": {"systems": ["student"], "latency_rows": 1, "resamples": 100},
    }
    (tmp_path / "potstill.yaml").write_text(yaml.safe_dump(spec))
    return tmp_path


def test_targets_are_written_once_and_the_student_is_trained_without_its_teacher(job: Path) -> None:
    assert "Train" not in call(job, "targets", "--dry-run")
    assert not (job / "runs").exists()
    printed = call(job, "targets")
    assert "rows     8, 8 of them new" in printed
    assert "bytes a token" in printed
    assert str(job / "runs" / "job" / "training" / "targets") in printed
    assert not (job / "runs" / "job" / "training" / "best").exists()
    assert "rows     8, 0 of them new" in call(job, "targets")
    shutil.rmtree(job / "teacher")
    assert "trained by logits on 8 rows" in call(job, "train")
    assert "rows     8, 0 of them new" in call(job, "targets"), "nor is it needed afterwards"
    assert "Train: stands already" in call(job, "train")


def test_a_spec_that_keeps_nothing_is_told_before_the_teacher_answers(job: Path) -> None:
    arguments = ["targets", str(job / "potstill.yaml"), "--runs", str(job / "runs"), "--set", "targets.kind=live"]
    with pytest.raises(Exception, match=r"there are no targets to write: `targets\.kind` is live"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert not (job / "runs" / "job" / "data").exists()

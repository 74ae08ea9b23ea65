"""The stages as verbs of the command line: each stops where it says, and `--dry-run` foretells what it would do, and does nothing."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from potstill.cli.main import app
from tiny import tiny_llama

LABELS = ("warm", "cold")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec of a job that takes seconds; its runs are kept beside it."""
    folder = tmp_path_factory.mktemp("verbs")
    for split, count in (("train", 8), ("validation", 3), ("test", 3)):
        rows = [{"prompt": f"{split} {i}: is {i * 37} {split[::-1]} {i} warm?", "completion": LABELS[i % 2]} for i in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {
        "name": "job",
        "task": {"type": "nli", "labels": list(LABELS), "max_new_tokens": 3},
        "data": {split: f"{split}.jsonl" for split in ("train", "validation", "test")},
        "teacher": {"model": str(tiny_llama(folder / "teacher", layers=2))},
        "student": {"carve": {"layers": 1}},
        "gates": {"format": False, "truncation": False},
        "training": {"epochs": 1, "batch_size": 4, "evaluations": 1},
        "evaluation": {"systems": ["student"], "latency_rows": 1, "resamples": 100},
    }
    (folder / "potstill.yaml").write_text(yaml.safe_dump(spec))
    return folder


def call(job: Path, verb: str, *arguments: str) -> str:
    result = CliRunner().invoke(app, [verb, str(job / "potstill.yaml"), "--runs", str(job / "runs"), *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def plan(job: Path, verb: str, *arguments: str) -> list[tuple[str, str]]:
    """Action and reason of each stage, as `--dry-run` tells them."""
    stages, _, _ = call(job, verb, "--dry-run", *arguments).partition("\n\n")  # what it takes comes after
    lines = [line.split(maxsplit=2) for line in stages.splitlines()]
    return [(action, reason) for _, action, reason in lines]


STANDS = ("skip", "its inputs and outputs are unchanged")
NOT_YET = ("run", "not yet made")


# The tests of this file are one story: each goes on from what the one before it has left.
def test_a_dry_run_of_a_new_job_makes_nothing(job: Path) -> None:
    for number, verb in enumerate(("generate", "train", "evaluate", "report"), 2):
        assert plan(job, verb) == [NOT_YET] * number
    assert not (job / "runs").exists()


def test_evaluate_stops_before_the_report(job: Path) -> None:
    printed = call(job, "evaluate")
    assert "questions: " in printed
    assert (job / "runs" / "job" / "evaluation" / "scores.json").exists()
    assert not (job / "runs" / "job" / "report.json").exists()
    assert plan(job, "evaluate") == [STANDS] * 4
    assert plan(job, "report") == [*[STANDS] * 4, NOT_YET]


def test_report_goes_on_from_there_and_shows_the_comparison(job: Path) -> None:
    printed = call(job, "report")
    assert [f"{title}: stands already" in printed for title in ("Data", "Generate", "Train", "Evaluate")] == [True] * 4
    assert [word in printed for word in ("Accuracy", "report.html", "training/best")] == [True] * 3
    assert plan(job, "run") == [STANDS] * 5


def test_an_output_that_is_gone_is_told_from_a_stage_that_was_cut(job: Path) -> None:
    report, record = job / "runs" / "job" / "report.html", job / "runs" / "job" / "report" / "stage.json"
    report.unlink()
    assert plan(job, "report")[-1] == ("resume", "an output is missing or changed")
    call(job, "report")
    assert report.exists()
    record.write_text(json.dumps({**json.loads(record.read_text()), "state": "started"}))
    assert plan(job, "report")[-1] == ("resume", "it was cut off")


def test_a_change_of_the_spec_touches_what_depends_on_it(job: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (job / "runs").rglob("*")}
    assert plan(job, "evaluate", "--set", "training.epochs=2") == [
        STANDS,
        STANDS,
        ("run", "its inputs changed"),
        ("run", "an earlier stage is made first"),
    ]
    assert {path: path.stat().st_mtime_ns for path in (job / "runs").rglob("*")} == before

"""The stages as verbs of the command line: each stops where it says, and `--dry-run` foretells what it would do, and does nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from potstill.cli.main import app
from tiny import tiny_llama, write_splits

LABELS = ("warm", "cold")


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec of a job that takes seconds; its runs are kept beside it."""
    folder = tmp_path_factory.mktemp("verbs")

    def row(split: str, i: int) -> dict[str, str]:
        return {"prompt": f"{split} {i}: is {i * 37} {split[::-1]} {i} warm?", "completion": LABELS[i % 2]}

    write_splits(folder, row, train=8, validation=3, test=3)
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


def press(job: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`potstill` with these arguments, in a process of its own, where BROWSER is a program that writes down what it is given."""
    browser = job / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {job}/opened\n')
    browser.chmod(0o755)
    command = [sys.executable, "-m", "potstill", *arguments, "--runs", str(job / "runs")]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "BROWSER": f"{browser} %s"})


def test_the_report_of_a_run_is_made_anew_and_shown_in_the_browser(job: Path) -> None:
    page = job / "runs" / "job" / "report.html"
    page.write_text("spoilt")
    result = press(job, "report", "job", "--open")
    assert result.returncode == 0, result.stderr
    assert page.read_text().endswith("</html>")
    assert (job / "opened").read_text().strip() == page.as_uri()
    assert "Accuracy" in result.stdout
    assert plan(job, "report") == [STANDS] * 5


def test_a_run_that_was_not_evaluated_has_no_report_and_settings_go_with_a_spec(job: Path) -> None:
    refused = press(job, "report", "job", "--set", "seed=3")
    assert (refused.returncode, "--set goes with a SPEC" in refused.stderr) == (2, True)
    unknown = press(job, "report", "other")
    assert (unknown.returncode, "other: there is no such run; in" in unknown.stderr) == (2, True)
    assert "there are job" in unknown.stderr
    call(job, "generate", "--set", "name=begun")
    begun = press(job, "report", "begun")
    assert (begun.returncode, "its stage `train` is not finished" in begun.stderr) == (1, True)


def test_runs_of_two_seeds_are_compared_and_have_a_spread(job: Path) -> None:
    call(job, "run", "--set", "name=other", "--set", "seed=5")
    result = CliRunner().invoke(app, ["compare", "job", "other", "--runs", str(job / "runs")], catch_exceptions=False)
    assert result.exit_code == 0
    assert "job, other differ by their seed alone (0, 5):" in result.output

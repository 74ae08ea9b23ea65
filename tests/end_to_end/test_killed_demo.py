"""`potstill demo`, killed for real inside every stage, goes on and ends with the report of a demo that was not."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tiny import tiny_llama

SIZE = {"train": 20, "validation": 4, "test": 8, "layers": 2, "epochs": 2, "learning_rate": 0.01, "latency_rows": 2}
# What a random teacher of four layers needs, and a test has time for.
SETTINGS = ["gates.format=false", "gates.truncation=false", "task.max_new_tokens=6", "generation.batch_size=4", "training.batch_size=4"]
SETTINGS += ["training.save_minutes=0.004", "evaluation.resamples=200"]

# The command as it is, in a process that is killed when it asks the system for something: `rename PATH`, when a file of this name is
# to be put in its place; `event TEXT N`, when something is to be written behind the N-th event that holds the text.
DRIVER = """\
import os, signal, sys
from potstill.cli.main import main

how, what, count = sys.argv[1], sys.argv[2], int(sys.argv[3])

def last_line(path):
    return open(path, "rb").read().splitlines()[-1].decode() if os.path.exists(path) else ""

def look(request, arguments):
    global count
    if request == "os.rename":
        count -= how == "rename" and str(arguments[1]).endswith(what)
    elif request == "open" and arguments[1] == "a" and str(arguments[0]).endswith("events.jsonl"):
        count -= how == "event" and what in last_line(arguments[0])
    if count == 0:
        count = -1  # to kill is a request, too
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(look)
main(sys.argv[4:])
"""

KILLS = [
    ("", "rename", "potstill.yaml", 1),
    ("data", "rename", "python-docs/data/validation.jsonl", 1),
    ("generate", "event", '"task": "teacher answers"', 1),
    ("train", "event", '"task": "training"', 6),
    ("evaluate", "event", '"task": "teacher answers"', 1),
    ("evaluate", "event", '"task": "baseline latency"', 1),
    ("report", "rename", "python-docs/model_card.md", 1),
]


def demo(folder: Path, teacher: Path, how: str = "never", what: str = "", count: int = 1) -> int:
    given = ["demo", "--folder", str(folder), "--teacher", str(teacher), "--size", json.dumps(SIZE)]
    given += [word for setting in SETTINGS for word in ("--set", setting)]
    command = [sys.executable, "-c", DRIVER, how, what, str(count), *given]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode in (0, -signal.SIGKILL), result.stderr
    assert "Traceback" not in result.stderr
    return result.returncode


def figures(value: Any) -> Any:
    """A report without what a clock decides, nor what is reckoned from that."""
    if isinstance(value, dict):
        clock = {"timings", "machine", "cost", "created_at", "seconds", "at"}
        return {key: figures(inner) for key, inner in value.items() if key not in clock}
    return [figures(inner) for inner in value] if isinstance(value, list) else value


def stages_begun(run: Path) -> list[str]:
    if not (run / "events.jsonl").exists():
        return []
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    return [event["stage"] for event in events if event["event"] == "StageStarted"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a demo that nobody disturbed; its place is free for another."""
    folder = tmp_path_factory.mktemp("demo")
    assert demo(folder / "place", tiny_llama(folder / "teacher")) == 0
    shutil.move(folder / "place" / "runs" / "python-docs", folder / "whole")
    shutil.rmtree(folder / "place")
    return folder / "whole"


def test_a_demo_killed_in_every_stage_ends_with_the_same_report(whole: Path) -> None:
    place, teacher = whole.parent / "place", whole.parent / "teacher"
    run = place / "runs" / "python-docs"
    for stage, how, what, count in KILLS:
        assert demo(place, teacher, how, what, count) == -signal.SIGKILL, f"was not killed at {what}"
        assert stages_begun(run)[-1:] == ([stage] if stage else [])
    assert not (run / "manifest.json").exists()
    assert demo(place, teacher) == 0
    ended, undisturbed = (json.loads((folder / "report.json").read_text()) for folder in (run, whole))
    assert figures(ended) == figures(undisturbed)
    for name in ("training/best/model.safetensors", "evaluation/predictions/student.jsonl"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name

"""A run of generation with `engine: ray`, that may be killed: `python ray_driver.py FOLDER BASE_URL ADDRESS`."""

from __future__ import annotations

import sys
from pathlib import Path

from potstill.generation.panel import open_panel
from potstill.generation.stage import generate
from potstill.records import Example, Message
from potstill.spec import RunSpec
from potstill.store.events import EventLog
from potstill.store.run import Run
from potstill.tasks import build_task

CONCURRENCY = 8
ROWS = 60


def conversations(count: int) -> list[Example]:
    """Rows of one to three user turns; every tenth repeats the one before."""
    rows = []
    for number in range(count):
        said = number - (number % 10 == 9)
        turns = []
        for turn in range(1 + said % 3):
            turns += [Message("user", f"question {said}.{turn}"), Message("assistant", "GOLD")]
        rows.append(Example(f"row-{number}", tuple(turns[:-1])))
    return rows


def open_run(folder: Path, base_url: str, engine: object, **changes: object) -> Run:
    spec = {
        "name": "on-ray",
        "task": {"type": "conversation"},
        "data": {"train": "train.jsonl", "test_duplicates": "allow"},  # else generation reads what the data stage makes
        "teacher": {"model": "stub", "base_url": base_url, "api_key_env": "STUB_KEY"},
        "student": {"model": "x"},
        "generation": {"concurrency": CONCURRENCY, "pilot": {"rows": 4}},
        "engine": engine,
    }
    return Run(RunSpec.model_validate(spec | changes), folder, EventLog(folder / "events.jsonl"))


def run_generation(run: Run) -> str:
    """Generation alone, on rows that are always the same."""
    run.folder.mkdir(exist_ok=True)
    task = build_task(run.spec.task)
    with open_panel(run.spec, task) as panel:
        return generate(run, task, panel, conversations(ROWS), [])


if __name__ == "__main__":
    folder, base_url, address = sys.argv[1:]
    print(run_generation(open_run(Path(folder), base_url, {"kind": "ray", "address": address})))

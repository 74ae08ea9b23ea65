"""A teacher that takes its time and writes down what it is asked; as a program, one run of generation that may be killed.

`python slow_teacher.py RUN_FOLDER LOG KIND HANG_AFTER`: generates with rows and settings that are always the same. Each call adds its
keys to LOG before it is answered, so that the caller knows what was in flight; after HANG_AFTER requests calls hang, so that the
process lives until it is killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from potstill.generation.panel import seat_panel
from potstill.generation.stage import generate
from potstill.models.base import Capabilities, Model
from potstill.models.questions import request_key
from potstill.records import Completion, Example, Message, Request, Usage
from potstill.spec import RunSpec
from potstill.store.events import EventLog
from potstill.store.run import Run
from potstill.tasks import build_task

KINDS = {"endpoint": (1, 6), "local": (5, 1)}
"""Batch size and concurrency."""


class SlowTeacher:
    """Answers with what it has heard so far. Some answers are refusals, some are cut off, and a batch's answers tell its size."""

    capabilities = Capabilities()
    name = "slow"
    identity = "slow:1"

    def __init__(self, kind: str = "endpoint", log: Path | None = None, *, seconds: float = 0.0, hang_after: int = 10**9) -> None:
        self.batch_size, self.concurrency = KINDS[kind]
        self.closed = False
        self._log, self._seconds, self._left = log, seconds, hang_after

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        if self._log is not None:
            descriptor = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(descriptor, "".join(request_key(self, request) + "\n" for request in requests).encode())
            os.close(descriptor)
        self._left -= len(requests)
        await asyncio.sleep(self._seconds if self._left > 0 else 3600)
        return [self._answer(request, len(requests)) for request in requests]

    def _answer(self, request: Request, companions: int) -> Completion:
        asked = request.messages[-1].content
        heard = len(request.messages)
        number = int(asked.split()[1])
        text = (
            "I'm sorry, but I can't help with that."
            if number % 11 == 3
            else f"I heard {heard} turns, the last was {asked}; {companions} of us."
        )
        return Completion(f" {text}\n", "length" if number % 13 == 5 else "stop", Usage(len(asked), len(text)), 0.01, self.name)

    def dollars(self, completion: Completion) -> float | None:
        return 0.125

    async def close(self) -> None:
        self.closed = True


def conversations(count: int, *, prefix: str = "train") -> list[Example]:
    """Rows of one to three user turns, with gold answers between them that no teacher may see."""
    rows = []
    for number in range(count):
        turns = []
        for turn in range(1 + number % 3):
            turns += [Message("user", f"{prefix} {number * 10 + turn} {'x' * (number % 7)}"), Message("assistant", "GOLD")]
        rows.append(Example(f"{prefix}-{number}", tuple(turns[:-1])))
    return rows


def open_run(folder: Path, **changes: object) -> Run:
    """A run of a conversation task in `folder`."""
    spec = {
        "name": "slow",
        "task": {"type": "conversation"},
        "data": {"train": "train.jsonl", "test_duplicates": "allow"},  # no test rows are at hand
        "teacher": {"model": "echo"},
        "student": {"model": "x"},
        "seed": 7,
    }
    return Run(RunSpec.model_validate(spec | changes), folder, EventLog())


def generate_by(run: Run, teacher: Model, train: Sequence[Example], validation: Sequence[Example] = (), labels: Sequence[str] = ()) -> str:
    """The stage's work with one teacher at hand."""
    task = build_task(run.spec.task, labels)
    with seat_panel(run.spec, task, [teacher]) as panel:
        return generate(run, task, panel, train, validation)


def run_generation(folder: Path, teacher: SlowTeacher) -> str:
    """The run that the kill tests kill."""
    run = open_run(folder)
    return generate_by(run, teacher, conversations(40), conversations(9, prefix="validation"))


if __name__ == "__main__":
    run_generation(Path(sys.argv[1]), SlowTeacher(sys.argv[3], Path(sys.argv[2]), seconds=0.01, hang_after=int(sys.argv[4])))

"""A teacher that answers by a function of the request, and an interview of it without a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from potstill.generation.asking import ask_rows, rows_of
from potstill.generation.collect import Judged, judge_rows
from potstill.generation.interview import Interview
from potstill.models.base import Capabilities
from potstill.models.talk import Seat
from potstill.records import Completion, Example, Message, Request, Sampling, Usage
from potstill.spec.sections import GatesSpec, GenerationSpec
from potstill.store.events import EventLog
from potstill.store.ledger import Ledger
from potstill.tasks.base import Task


class Scripted:
    """Answers by `answer`, and remembers every request."""

    capabilities = Capabilities()

    def __init__(self, answer: Callable[[Request], str | Completion], name: str = "scripted", *, batch_size: int = 1) -> None:
        self.name, self.identity = name, f"scripted:{name}"
        self.batch_size, self.concurrency = batch_size, 4
        self.asked: list[Request] = []
        self._answer = answer

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked += requests
        said = [self._answer(request) for request in requests]
        return [one if isinstance(one, Completion) else Completion(one, "stop", Usage(3, 2), model=self.name) for one in said]

    def dollars(self, completion: Completion) -> float | None:
        return 0.25

    async def close(self) -> None:
        return None


def seat(model: Scripted, **settings: object) -> Seat:
    return Seat(model.name, model, Sampling(16, temperature=1.0), **settings)


def interview(
    task: Task, ledger: Ledger, *teachers: Seat, judge: Seat | None = None, gates: GatesSpec | None = None, **generation: object
) -> Interview:
    return Interview(task, teachers, ledger, generation=GenerationSpec.model_validate(generation), gates=gates, judge=judge)


def ask(talks: Interview, *rows: Example) -> list[Judged]:
    """Ask everything, and judge it."""
    ask_rows(talks, rows_of(rows), len(rows), EventLog())
    return list(judge_rows(talks, rows))


def open_ledger(folder: Path) -> Ledger:
    return Ledger(folder / "ledger.sqlite")


def row(text: str, *reference: str, number: int = 0, tags: tuple[str, ...] = ()) -> Example:
    return Example(f"row-{number}", (Message("system", "Be kind."), Message("user", text)), reference, tags=tags)

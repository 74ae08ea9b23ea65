"""The models of a run's panel: its teachers and its judge, opened, and the budget that they share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from potstill.errors import BudgetError, SpecError, StoreError
from potstill.generation.talk import Seat
from potstill.models.base import Capabilities, Model
from potstill.models.load import load_teacher
from potstill.records import Completion, Request, Sampling, Usage
from potstill.spec import RunSpec
from potstill.spec.sections import BudgetSpec, TeacherSpec
from potstill.store.atomic import read_json, write_json
from potstill.tasks.base import Task

_JUDGE_TOKENS = 256


@dataclass(frozen=True, eq=False)
class Panel:
    """Who is asked: teachers in the spec's order, and the judge where one is needed."""

    teachers: tuple[Seat, ...]
    judge: Seat | None = None

    @property
    def models(self) -> list[Model]:
        """Each model once."""
        seats = self.teachers if self.judge is None else (*self.teachers, self.judge)
        return list({id(seat.model): seat.model for seat in seats}.values())


@contextlib.contextmanager
def open_panel(spec: RunSpec, task: Task) -> Iterator[Panel]:
    """The panel of a spec; its models are let go at the end of the block.

    Raises EndpointError and ModelError where one cannot be had, SpecError where a judge is needed and there is none, BudgetError where
    a cap on dollars cannot be kept because a price is unknown.
    """
    with seat_panel(spec, task, [load_teacher(teacher, spec.generation) for teacher in spec.all_teachers]) as panel:
        yield panel


@contextlib.contextmanager
def seat_panel(spec: RunSpec, task: Task, models: Sequence[Model]) -> Iterator[Panel]:
    """`open_panel` with the teachers' models at hand."""
    teachers = zip(spec.all_teachers, models, strict=True)
    panel = Panel(tuple(Seat(t.title, model, teacher_sampling(spec, task, t), t.weight, t.tags) for t, model in teachers))
    try:
        panel = replace(panel, judge=_judge(spec, panel))
        _require_prices(spec.generation.budget, panel)
        yield panel
    finally:
        import asyncio  # here, so that a run can be foreseen without it

        asyncio.run(_close(panel))


class Silent:
    """A model that has answered before and is asked nothing more: its name in the ledger stands for it."""

    capabilities = Capabilities()
    batch_size = 1
    concurrency = 1

    def __init__(self, name: str, identity: str) -> None:
        self.name, self.identity = name, identity

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """Never called."""
        raise AssertionError(f"{self.name} is asked {len(requests)} questions, but only what was answered is read here")

    def dollars(self, completion: Completion) -> float | None:  # noqa: ARG002 (the protocol's signature)
        """Nothing."""
        return 0.0

    async def close(self) -> None:
        """Nothing is held."""


def note_panel(path: Path, panel: Panel) -> None:
    """Write down who answered, so that the answers can be found again without loading anybody."""
    judge = None if panel.judge is None else panel.judge.model.identity
    write_json(path, {"teachers": {seat.title: seat.model.identity for seat in panel.teachers}, "judge": judge})


def recall_panel(path: Path, spec: RunSpec, task: Task) -> Panel:
    """The panel whose answers are in the ledger, silent. Raises StoreError where the spec names others than answered."""
    noted = read_json(path)
    missing = [teacher.title for teacher in spec.all_teachers if teacher.title not in noted["teachers"]]
    if missing:
        raise StoreError(f"{path}: {missing[0]} has answered nothing here; `potstill generate` asks it")
    teachers = tuple(
        Seat(t.title, Silent(t.title, noted["teachers"][t.title]), teacher_sampling(spec, task, t), t.weight, t.tags)
        for t in spec.all_teachers
    )
    judge = None if noted["judge"] is None else Seat("judge", Silent("judge", noted["judge"]), judge_sampling(spec))
    return Panel(teachers, judge)


def judge_sampling(spec: RunSpec) -> Sampling:
    """How a judge's words are drawn: greedily."""
    return Sampling(max_new_tokens=_JUDGE_TOKENS, seed=spec.seed)


def teacher_sampling(spec: RunSpec, task: Task, teacher: TeacherSpec | None = None) -> Sampling:
    """How the spec wants a teacher's answers drawn."""
    asked = teacher or spec.teacher
    return Sampling(
        max_new_tokens=spec.task.max_new_tokens or task.max_new_tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        seed=spec.seed,
    )


def _judge(spec: RunSpec, panel: Panel) -> Seat | None:
    if spec.generation.choose != "judge" and spec.gates.judge is None:
        return None
    sampling = judge_sampling(spec)
    if spec.generation.judge is not None:
        named = spec.generation.judge
        return Seat(named.title, load_teacher(named, spec.generation), sampling)
    if len(panel.teachers) < 2:
        raise SpecError(
            "generation.judge: answers are to be judged, but nobody is named who judges; name a model in `generation.judge` (another than "
            "the teacher: models favour their own answers)"
        )
    return replace(panel.teachers[-1], sampling=sampling)


def _require_prices(budget: BudgetSpec, panel: Panel) -> None:
    if budget.dollars is None:
        return
    probe = Completion("", "stop", Usage(1, 1), busy_s=1.0)
    for seat in (*panel.teachers, *((panel.judge,) if panel.judge is not None else ())):
        if seat.model.dollars(probe) is None:
            raise BudgetError(
                f"generation.budget.dollars: nobody says what {seat.title} costs, so the cap cannot be kept; give its `price`, or cap "
                "`tokens` or `calls` instead"
            )


async def _close(panel: Panel) -> None:
    for model in panel.models:
        await model.close()

"""The models of a run's panel: its teachers and its judge, opened, and the budget that they share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from potstill.errors import BudgetError, SpecError, StoreError
from potstill.models.base import Capabilities, Model
from potstill.models.load import endpoint_identity, load_teacher
from potstill.models.locate import ECHO, is_local
from potstill.models.talk import Seat
from potstill.records import Completion, Request, Sampling, Usage
from potstill.spec import RunSpec
from potstill.spec.sections import BudgetSpec, TeacherSpec
from potstill.store.atomic import read_object, write_json
from potstill.tasks.base import Task
from potstill.tasks.reasons import answer_tokens

MOST_LOGPROBS = 20
"""So many of the likeliest tokens OpenAI's endpoints give at most, and vLLM's as they come."""
_JUDGE_TOKENS = 256
_OF_THE_SEAT = {"name", "temperature", "top_p", "weight", "tags"}


@dataclass(frozen=True, eq=False)
class Panel:
    """Who is asked: teachers in the spec's order, the judge where one is needed, and who scores the accepted answers."""

    teachers: tuple[Seat, ...]
    judge: Seat | None = None
    scorer: Seat | None = None

    @property
    def models(self) -> list[Model]:
        """Each model once."""
        seats = (*self.teachers, *(seat for seat in (self.judge, self.scorer) if seat is not None))
        return list({id(seat.model): seat.model for seat in seats}.values())


@contextlib.contextmanager
def open_panel(spec: RunSpec, task: Task) -> Iterator[Panel]:
    """The panel of a spec; its models are let go at the end of the block.

    Raises EndpointError and ModelError where one cannot be had, SpecError where a judge is needed and there is none, BudgetError where
    a cap on dollars cannot be kept because a price is unknown.
    """
    with seat_panel(spec, task, _load_teachers(spec)) as panel:
        yield panel


@contextlib.contextmanager
def seat_panel(spec: RunSpec, task: Task, models: Sequence[Model]) -> Iterator[Panel]:
    """`open_panel` with the teachers' models at hand.

    Seats of one identity share one model, the first: its connections, its limits and its open batches are one thing to the provider
    and to the ledger.
    """
    teachers = zip(spec.all_teachers, _shared(models), strict=True)
    panel = Panel(tuple(teacher_seat(spec, task, t, model) for t, model in teachers))
    try:
        panel = replace(panel, judge=_judge(spec, panel))
        panel = replace(panel, scorer=_scorer(spec, panel))
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


@dataclass(frozen=True, slots=True)
class Noted:
    """`panel.json`: who answered (names in the ledger, by title), of what inputs, by which gates, and whether all was asked."""

    teachers: dict[str, str]
    judge: str | None
    inputs: dict[str, Any]
    gates: Any
    complete: bool

    @classmethod
    def read(cls, path: Path) -> Noted:
        """Raises StoreError where nothing was generated yet, or by a version that noted less."""
        return cls(**read_object(path, *(field.name for field in fields(cls))))


def note_panel(path: Path, panel: Panel, inputs: dict[str, Any], *, complete: bool) -> None:
    """Write down who answers what, so that the answers can be found again without loading anybody; `inputs` are the stage's."""
    judge = None if panel.judge is None else panel.judge.model.identity
    others = {name: value for name, value in inputs.items() if name != "gates"}
    noted = Noted({seat.title: seat.model.identity for seat in panel.teachers}, judge, others, inputs["gates"], complete)
    write_json(path, asdict(noted))


def recall_panel(noted: Noted, spec: RunSpec, task: Task) -> Panel:
    """The panel whose answers are in the ledger, silent; of the very spec that it was noted for, gates aside.

    Raises StoreError where these gates need a judge, and none was asked.
    """
    if noted.judge is None and spec.gates.judge is not None:
        raise StoreError("gates.judge: no judge has marked these answers; `potstill generate` asks one")
    teachers = tuple(teacher_seat(spec, task, t, Silent(t.title, noted.teachers[t.title])) for t in spec.all_teachers)
    judge = None if noted.judge is None else Seat("judge", Silent("judge", noted.judge), judge_sampling(spec))
    named = scorer_of(spec)
    scorer = None if named is None else scorer_seat(spec, named, Silent(named.title, endpoint_identity(named)))
    return Panel(teachers, judge, scorer)


def teacher_seat(spec: RunSpec, task: Task, teacher: TeacherSpec, model: Model) -> Seat:
    """A teacher's place in the panel."""
    sampling = teacher_sampling(spec, task, teacher)
    return Seat(teacher.title, model, sampling, teacher.weight, teacher.tags, asked_logprobs(spec))


def scorer_of(spec: RunSpec) -> TeacherSpec | None:
    """Who scores answers; None where nobody does, or nothing is learnt of it."""
    return spec.generation.scorer if learnt_logprobs(spec) else None


def scorer_seat(spec: RunSpec, named: TeacherSpec, model: Model) -> Seat:
    """The place of who scores answers; it writes a token a call, because it must, which nobody reads."""
    return Seat(named.title, model, Sampling(max_new_tokens=1), top_logprobs=learnt_logprobs(spec))


def asked_logprobs(spec: RunSpec) -> int:
    """How many of the likeliest tokens at each place are asked for beside answers; 0 where nothing is learnt of them."""
    return learnt_logprobs(spec) if spec.generation.scorer is None else 0


def learnt_logprobs(spec: RunSpec) -> int:
    """How many of the likeliest tokens at each place are learnt of what an endpoint says; 0 where nothing is."""
    return min(spec.targets.k, MOST_LOGPROBS) if spec.targets.kind == "logprobs" and spec.training.objective != "sft" else 0


def judge_sampling(spec: RunSpec) -> Sampling:
    """How a judge's words are drawn: greedily."""
    return Sampling(max_new_tokens=_JUDGE_TOKENS, seed=spec.seed)


def teacher_sampling(spec: RunSpec, task: Task, teacher: TeacherSpec | None = None) -> Sampling:
    """How the spec wants a teacher's answers drawn."""
    asked = teacher or spec.teacher
    return Sampling(
        max_new_tokens=answer_tokens(task),
        temperature=asked.temperature,
        top_p=asked.top_p,
        seed=spec.seed,
    )


def _load_teachers(spec: RunSpec) -> list[Model]:
    """A model for each teacher; those that differ in nothing but how they are asked have one, so that weights are loaded once."""
    loaded: dict[str, Model] = {}
    models = []
    for teacher in spec.all_teachers:
        settings = teacher.model_dump_json(exclude=_OF_THE_SEAT)
        if settings not in loaded:
            loaded[settings] = load_teacher(teacher, spec.generation)
        models.append(loaded[settings])
    return models


def _shared(models: Sequence[Model]) -> list[Model]:
    first: dict[str, Model] = {}
    return [first.setdefault(model.identity, model) for model in models]


def _judge(spec: RunSpec, panel: Panel) -> Seat | None:
    if not spec.generation.chosen_by_judge and spec.gates.judge is None:
        return None
    sampling = judge_sampling(spec)
    if spec.generation.judge is not None:
        named = spec.generation.judge
        return Seat(named.title, _shared([*panel.models, load_teacher(named, spec.generation)])[-1], sampling)
    if len(panel.teachers) < 2:
        raise SpecError(
            "generation.judge: answers are to be judged, but nobody is named who judges; name a model in `generation.judge` (another than "
            "the teacher: models favour their own answers)"
        )
    return replace(panel.teachers[-1], sampling=sampling)


def _scorer(spec: RunSpec, panel: Panel) -> Seat | None:
    named = scorer_of(spec)
    if named is None:
        return None
    if problem := scorer_problem(spec):
        raise SpecError(problem)
    return scorer_seat(spec, named, _shared([*panel.models, load_teacher(named, spec.generation)])[-1])


def scorer_problem(spec: RunSpec) -> str | None:
    """Why who is named cannot score answers; None where it may."""
    named = spec.generation.scorer
    if named is None or not (named.replay is not None or is_local(named) or (named.model == ECHO and named.base_url is None)):
        return None
    return (
        f"`generation.scorer` is asked for `prompt_logprobs` over HTTP, and {named.title} is no endpoint: name one with its `base_url`; "
        "what a local teacher says is learnt with `targets.kind: live`"
    )


def _require_prices(budget: BudgetSpec, panel: Panel) -> None:
    if budget.dollars is None:
        return
    probe = Completion("", "stop", Usage(1, 1), busy_s=1.0)
    for seat in (*panel.teachers, *(seat for seat in (panel.judge, panel.scorer) if seat is not None)):
        if seat.model.dollars(probe) is None:
            raise BudgetError(
                f"generation.budget.dollars: nobody says what {seat.title} costs, so the cap cannot be kept; give its `price`, or cap "
                "`tokens` or `calls` instead"
            )


async def _close(panel: Panel) -> None:
    for model in panel.models:
        await model.close()

"""Rates, calls in flight and what is left of a budget, shared out among workers, so that together they pass no limit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from potstill.generation.workers.hours import by_the_hour_alone, dollars_a_second, share_hours
from potstill.models.budget import Budget, Caps
from potstill.spec import RunSpec, TeacherSpec


def most_workers(spec: RunSpec, tokens_a_call: int) -> int:
    """How many workers a spec wants, or as many as leave each a share of every rate that its calls, of so many tokens, fit in."""
    bounds = [spec.engine.workers, spec.generation.concurrency]
    for teacher in asked(spec):
        if teacher.requests_per_minute is not None:
            bounds.append(teacher.requests_per_minute)
        if teacher.tokens_per_minute is not None:
            bounds.append(teacher.tokens_per_minute // max(tokens_a_call, 1))
    return max(min(bounds), 1)


def share_rates(spec: RunSpec, workers: int) -> RunSpec:
    """The spec as one of so many workers follows it."""
    generation = spec.generation
    hours = by_the_hour_alone(asked(spec))

    def share(teacher: TeacherSpec) -> TeacherSpec:
        return _share(share_hours(teacher, workers) if hours else teacher, workers)

    alone = {
        "concurrency": max(generation.concurrency // workers, 1),
        "judge": generation.judge and share(generation.judge),
    }
    return spec.model_copy(
        update={
            "teacher": share(spec.teacher),
            "teachers": tuple(map(share, spec.teachers)),
            "generation": generation.model_copy(update=alone),
        }
    )


def share_budget(budget: Budget, workers: int, teachers: Iterable[TeacherSpec] = ()) -> list[Caps]:
    """What each worker may spend: together no more than is left. Minutes are not divided, for all work at the same time.

    Dollars for the machines of `teachers` that are paid by the hour are minutes, too: however many ask, they are paid once.
    """
    seconds = budget.start()
    caps, spent = budget.caps, budget.spent
    known = tuple(teachers)
    if caps.dollars is not None and spent.dollars is not None and by_the_hour_alone(known) and (rate := dollars_a_second(known)):
        paid_for = max(caps.dollars - spent.dollars, 0.0) / rate
        seconds = paid_for if seconds is None else min(seconds, paid_for)
    calls = _divide(caps.calls, spent.calls, workers)
    tokens = _divide(caps.tokens, spent.tokens, workers)
    dollars = None
    if caps.dollars is not None:
        dollars = 0.0 if spent.dollars is None else max(caps.dollars - spent.dollars, 0.0) / workers
    return [Caps(dollars, tokens[worker], calls[worker], None if seconds is None else seconds / 60) for worker in range(workers)]


def asked(spec: RunSpec) -> Iterator[TeacherSpec]:
    """Everybody who may be asked."""
    yield from spec.all_teachers
    if spec.generation.judge is not None:
        yield spec.generation.judge


def _share(teacher: TeacherSpec, workers: int) -> TeacherSpec:
    rates = {
        name: max(rate // workers, 1)
        for name in ("requests_per_minute", "tokens_per_minute")
        if (rate := getattr(teacher, name)) is not None
    }
    return teacher.model_copy(update=rates)


def _divide(cap: int | None, spent: int, workers: int) -> list[int | None]:
    """What is left of a cap in whole parts that add up to it."""
    if cap is None:
        return [None] * workers
    left = max(cap - spent, 0)
    return [left // workers + (worker < left % workers) for worker in range(workers)]

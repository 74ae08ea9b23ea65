"""Step by step: in each, every row's next questions go to whom they are for, until no row has another."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from potstill.generation.interview import Interview
from potstill.models.ask import ask_all
from potstill.models.base import Model
from potstill.models.budget import Budget
from potstill.models.questions import Answers
from potstill.records import Example, Request
from potstill.store.events import EventLog

Rows = Callable[[], Iterable[Example]]
"""The rows, from the start, as often as they are wanted."""


@dataclass
class _Count:
    """What a pass over the rows found: rows that may be asked more after this step."""

    going_on: int = 0


def rows_of(*splits: Sequence[Example]) -> Rows:
    """The rows of some splits, one after the other."""
    return lambda: itertools.chain.from_iterable(splits)


def ask_rows(
    interview: Interview,
    rows: Rows,
    count: int,
    log: EventLog,
    *,
    budget: Budget | None = None,
    title: str = "teacher answers",
    batched: bool = False,
) -> None:
    """Ask everything about `count` rows that is not in the ledger yet; the models stay open. Raises as `ask_async`.

    `batched` asks endpoints by their provider's batches.

    Memory does not grow with the rows: each step passes over them, and over the ledger, anew.
    """
    asyncio.run(ask_rows_async(interview, rows, count, log, budget=budget, title=title, batched=batched))


async def ask_rows_async(
    interview: Interview,
    rows: Rows,
    count: int,
    log: EventLog,
    *,
    budget: Budget | None = None,
    title: str = "teacher answers",
    batched: bool = False,
) -> None:
    """`ask_rows` inside a running event loop."""
    from potstill.models.batch import by_batches

    # By identity, as the ledger knows them: of two streams with one question, the second would find it in flight.
    models = list({seat.model.identity: seat.model for seat in interview.seats}.values())
    going_on, number = count, 1
    while going_on:
        counts = [_Count() for _ in models]
        expected = going_on * interview.first_asks
        with log.progress(title if number == 1 else f"{title}, step {number}", expected, "answers") as progress:
            streams = [(model, _requests(interview, rows(), number, model, found)) for model, found in zip(models, counts, strict=True)]
            answers = await ask_all(streams, interview.ledger, progress, budget, way=by_batches if batched else None)
            progress.skip(expected - sum(map(_seen, answers)))  # rows that ended before this step, or asked less
        going_on, number = counts[0].going_on, number + 1


def _requests(interview: Interview, rows: Iterable[Example], number: int, model: Model, found: _Count) -> Iterator[Request]:
    """The questions to one model in a step of all rows, in the rows' order."""
    for example in rows:
        step = interview.step(example, number)
        if step is None:
            continue
        found.going_on += not step.last
        yield from (ask.request for ask in step.asks if ask.seat.model.identity == model.identity)


def _seen(answers: Answers) -> int:
    return answers.asked + answers.stood

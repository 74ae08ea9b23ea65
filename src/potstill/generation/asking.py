"""Step by step: in each, every row's next questions go to whom they are for, until no row has another."""

from __future__ import annotations

import asyncio
import bisect
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
_AHEAD, _BEHIND = 256, 2_048
"""So many rows of those that were never reached are taken up, then so many of those that were."""


@dataclass
class _Count:
    """What a pass over the rows found: rows that may be asked more after this step."""

    going_on: int = 0


class Splits:
    """The rows of some splits, one after the other: `Rows` that can be taken up at any place."""

    def __init__(self, splits: Sequence[Sequence[Example]]) -> None:
        self._splits = splits

    def __call__(self) -> Iterator[Example]:
        return itertools.chain.from_iterable(self._splits)

    def __len__(self) -> int:
        return sum(map(len, self._splits))

    def between(self, start: int, end: int) -> Iterator[Example]:
        """The rows from place `start` up to `end`."""
        for split in self._splits:
            yield from split[max(start, 0) : max(end, 0)]
            start, end = start - len(split), end - len(split)


def rows_of(*splits: Sequence[Example]) -> Splits:
    """The rows of some splits, one after the other."""
    return Splits(splits)


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

    Memory does not grow with the rows: each step passes over them, and over the ledger, anew. Where models are asked one question a
    call, rows that were never reached come before those that were, so that a run which goes on asks at once.
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
    in_order = batched or any(model.batch_size > 1 for model in models)  # else other rows would share a batch than at first
    going_on, number = count, 1
    while going_on:
        counts = [_Count() for _ in models]
        expected = going_on * interview.first_asks
        with log.progress(title if number == 1 else f"{title}, step {number}", expected, "answers") as progress:
            place = 0 if in_order or not isinstance(rows, Splits) else _first_left(interview, rows, number)
            streams = [
                (model, _requests(interview, _from(rows, place), number, model, found)) for model, found in zip(models, counts, strict=True)
            ]
            answers = await ask_all(streams, interview.ledger, progress, budget, way=by_batches if batched else None)
            progress.skip(expected - sum(map(_seen, answers)))  # rows that ended before this step, or asked less
        going_on, number = counts[0].going_on, number + 1


def _first_left(interview: Interview, rows: Splits, number: int) -> int:
    """Where the answered rows end, if they are the first ones, as a run leaves them that was cut off; if not, some such place."""
    return bisect.bisect_left(range(len(rows)), True, key=lambda place: interview.is_left(next(rows.between(place, place + 1)), number))


def _from(rows: Rows, place: int) -> Iterator[Example]:
    """The rows from a place on, and meanwhile, while the answers to them are waited for, those before it."""
    if not isinstance(rows, Splits) or not 0 < place < len(rows):
        yield from rows()
        return
    ahead, behind = rows.between(place, len(rows)), rows.between(0, place)
    while some := list(itertools.islice(ahead, _AHEAD)):
        yield from some
        yield from itertools.islice(behind, _BEHIND)
    yield from behind


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

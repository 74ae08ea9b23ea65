"""Put many questions to a model, and each answer into the ledger: bounded in memory and in cost, resumable, the same each time."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from potstill.errors import BudgetError
from potstill.models.asking import Asking
from potstill.models.base import Model
from potstill.models.budget import Budget, Caps
from potstill.models.questions import Answers
from potstill.models.stretch import Stretch
from potstill.records import Request
from potstill.store.events import Progress
from potstill.store.ledger import Ledger


def ask(
    model: Model, requests: Iterable[Request], ledger: Ledger, progress: Progress | None = None, budget: Budget | None = None
) -> Answers:
    """Ask what is missing in the ledger, and return when every request has an answer or a failed call there.

    For code that runs no event loop of its own; `ask_async` otherwise, which says what is raised.
    """
    return asyncio.run(ask_async(model, requests, ledger, progress, budget))


async def ask_async(
    model: Model, requests: Iterable[Request], ledger: Ledger, progress: Progress | None = None, budget: Budget | None = None
) -> Answers:
    """`ask` inside a running event loop; `ledger` belongs to this loop's thread, `budget` may be shared with other models.

    EndpointError and ModelError of the model, StoreError of the ledger, and BudgetError, stop everything at once; where the budget
    is used up, calls in flight are waited for. They, a cancellation, Ctrl-C and SIGTERM (which acts as Ctrl-C while this runs) leave
    every answer that had arrived in the ledger. `requests` is read lazily; the model stays open.
    """
    [answers] = await ask_all([(model, requests)], ledger, progress, budget)
    return answers


class Asks(Protocol):
    """A way to ask one model: in calls (`Asking`), or another."""

    async def run(self, requests: Iterable[Request]) -> Answers:
        """Ask what is missing in the ledger. Raises as `ask_async`."""
        ...


Way = Callable[[Model, Ledger, Progress | None, Budget, Stretch], Asks]


async def ask_all(
    streams: Sequence[tuple[Model, Iterable[Request]]],
    ledger: Ledger,
    progress: Progress | None = None,
    budget: Budget | None = None,
    way: Way | None = None,
) -> list[Answers]:
    """`ask_async` of several models at the same time, each with its own requests; what stops one stops all.

    `way` is how a model is asked; by default in calls.
    """
    shared = budget or Budget(Caps(), ledger.spent())
    stretch = Stretch(ledger, shared)
    asking = [((way or Asking)(model, ledger, progress, shared, stretch), requests) for model, requests in streams]
    with stretch.lasting(), _terminate_as_interrupt() as terminated:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(_as_far_as_it_goes(one, requests)) for one, requests in asking]
                keeping = group.create_task(stretch.keep_ahead())
                await asyncio.wait(tasks)
                keeping.cancel()
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        except asyncio.CancelledError:
            if terminated.is_set():
                raise KeyboardInterrupt from None
            raise
    answers = []
    for task in tasks:
        if isinstance(result := task.result(), BudgetError):
            raise result
        answers.append(result)
    return answers


async def _as_far_as_it_goes(asking: Asks, requests: Iterable[Request]) -> Answers | BudgetError:
    """A budget that is used up does not call off what other models were asked already, and is paid for."""
    try:
        return await asking.run(requests)
    except BudgetError as error:
        return error


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[threading.Event]:
    """SIGTERM cancels this task meanwhile, as asyncio does for SIGINT: that leaves time to write what has arrived.

    It does not go by way of SIGINT, which shells have background jobs ignore.
    """
    terminated = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield terminated
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def stop(*_: object) -> None:
        terminated.set()
        loop.call_soon_threadsafe(task.cancel)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield terminated
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)

"""Put many questions to a model, and each answer into the ledger: bounded in memory, resumable, the same at every resumption.

Requests are taken a window at a time. In a window equal questions become one, and for a model that answers in batches they are
cut into batches by length. That plan rests on the window alone, not on what stands in the ledger already: so a run that was
killed makes, when it goes on, the very batches that it would have made, and what was padded together is padded together again.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from potstill.models.base import Model
from potstill.records import Completion, Request, Usage
from potstill.store.atomic import fingerprint
from potstill.store.events import Progress
from potstill.store.ledger import Ledger

KEY_VERSION = 1
BATCHED_WINDOW = 4096
"""Requests sorted by length together. More would pad less and hold more in memory; 128 batches of 32 leave next to no padding."""
SINGLE_WINDOW = 256
"""Requests planned together where order does not matter: few, so that planning never holds up the calls in flight for long."""
_FLUSH_S = 0.05


@runtime_checkable
class MeasuresLength(Protocol):
    """A model that can say how long a request is, in tokens or anything that grows with them."""

    def length(self, request: Request) -> int:
        """The request's length."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """A request under its key."""

    key: str
    request: Request


@dataclass(frozen=True, slots=True)
class Answers:
    """What asking came to. The texts are in the ledger: `of` finds them, one at a time.

    `asked` calls were made now, `failed` of them with an error; `stood` requests had their answer already, from before or from
    an equal request. `usage` and `dollars` (None: a price is unknown) are those of the calls made now.
    """

    asked: int
    failed: int
    stood: int
    usage: Usage
    dollars: float | None
    model: Model = dataclasses.field(repr=False)
    ledger: Ledger = dataclasses.field(repr=False)

    def of(self, request: Request) -> Completion:
        """The answer to one of the requests that were asked, or its failed call."""
        completion = self.ledger.get(request_key(self.model, request))
        assert completion is not None, "this request was not among those that were asked"
        return completion


def request_key(model: Model, request: Request) -> str:
    """SHA-256 of all that an answer depends on: the model, every message, the sampling, the sample's number."""
    return fingerprint(
        {
            "version": KEY_VERSION,
            "identity": model.identity,
            "messages": [(message.role, message.content) for message in request.messages],
            "sampling": dataclasses.asdict(request.sampling),
            "sample": request.sample,
        }
    )


def ask(model: Model, requests: Iterable[Request], ledger: Ledger, progress: Progress | None = None) -> Answers:
    """Ask what is missing in the ledger, and return when every request has an answer or a failed call there.

    For code that runs no event loop of its own; `ask_async` otherwise, which says what is raised.
    """
    return asyncio.run(ask_async(model, requests, ledger, progress))


async def ask_async(model: Model, requests: Iterable[Request], ledger: Ledger, progress: Progress | None = None) -> Answers:
    """`ask` inside a running event loop; `ledger` belongs to this loop's thread.

    EndpointError and ModelError of the model, and StoreError of the ledger, stop everything at once. They, a cancellation,
    Ctrl-C and SIGTERM (which acts as Ctrl-C while this runs) leave every answer that had arrived in the ledger. `requests` is
    read lazily; the model stays open.
    """
    with _terminate_as_interrupt() as terminated:
        try:
            return await _Asking(model, ledger, progress).run(requests)
        except asyncio.CancelledError:
            if terminated.is_set():
                raise KeyboardInterrupt from None
            raise


def plan_batches(model: Model, requests: Sequence[Request]) -> list[list[Question]]:
    """The batches of one window: each question once, longest first, ties by key; in the given order where batches hold one."""
    questions = {key: Question(key, request) for key, request in ((request_key(model, request), request) for request in requests)}
    if model.batch_size == 1:
        return [[question] for question in questions.values()]
    # Longest first: out of memory comes at the start if at all, and the estimate of the time left errs on the safe side.
    length = model.length if isinstance(model, MeasuresLength) else _characters
    ordered = sorted(questions.values(), key=lambda question: (-length(question.request), question.key))
    return [ordered[start : start + model.batch_size] for start in range(0, len(ordered), model.batch_size)]


class _Asking:
    """One call of `ask`: a producer plans, `model.concurrency` workers call, one task writes."""

    def __init__(self, model: Model, ledger: Ledger, progress: Progress | None) -> None:
        self._model, self._ledger, self._progress = model, ledger, progress
        self._queue: asyncio.Queue[list[Question] | None] = asyncio.Queue(maxsize=model.concurrency)
        self._writer = _Writer(ledger, model.identity)
        self._in_flight: set[str] = set()
        self._spent = ledger.dollars()
        self._asked = self._failed = self._stood = 0
        self._usage = Usage()
        self._dollars: float | None = 0.0

    async def run(self, requests: Iterable[Request]) -> Answers:
        writing = asyncio.create_task(self._writer.run())
        working = [
            asyncio.create_task(self._produce(requests)),
            *(asyncio.create_task(self._work()) for _ in range(self._model.concurrency)),
        ]
        try:
            await _all_or_first_failure(working, writing)
        finally:
            for task in (*working, writing):
                task.cancel()
            await asyncio.gather(*working, writing, return_exceptions=True)
            self._writer.commit()
            self._ledger.abandon(sorted(self._in_flight))
        return Answers(self._asked, self._failed, self._stood, self._usage, self._dollars, self._model, self._ledger)

    async def _produce(self, requests: Iterable[Request]) -> None:
        remaining = iter(requests)
        size = SINGLE_WINDOW if self._model.batch_size == 1 else BATCHED_WINDOW
        while window := list(itertools.islice(remaining, size)):
            batches = plan_batches(self._model, window)
            keys = [question.key for batch in batches for question in batch]
            self._writer.commit()  # what has arrived is no longer in flight, so it must be in the ledger before that is asked
            wanted = set(self._ledger.missing(keys)) - self._in_flight
            self._settle(len(window) - len(wanted))
            for batch in batches:
                if left := [question for question in batch if question.key in wanted]:
                    self._in_flight.update(question.key for question in left)
                    await self._queue.put(left)
            await asyncio.sleep(0)
        for _ in range(self._model.concurrency):
            await self._queue.put(None)

    def _settle(self, stood: int) -> None:
        self._stood += stood
        if self._progress is not None and stood:
            self._progress.skip(stood)

    async def _work(self) -> None:
        while (batch := await self._queue.get()) is not None:
            await self._writer.intend(batch)
            completions = await self._model.complete([question.request for question in batch])
            assert len(completions) == len(batch), f"{self._model.name} gave {len(completions)} answers to {len(batch)} requests"
            for question, completion in zip(batch, completions, strict=True):
                self._note(question, completion)
            if self._progress is not None:
                self._progress.advance(len(batch), dollars=self._spent)

    def _note(self, question: Question, completion: Completion) -> None:
        dollars = self._model.dollars(completion)
        self._writer.record(question.key, completion, dollars)
        self._in_flight.discard(question.key)
        self._asked += 1
        self._failed += completion.finish_reason == "error"
        self._usage += completion.usage
        self._dollars = _sum(self._dollars, dollars)
        self._spent = _sum(self._spent, dollars)


class _Writer:
    """Group commit: what is handed over while a transaction runs goes into the next one.

    An intent is awaited, and takes all answers that arrived before it along: so what is not yet on disk when the process is
    killed was in flight, or its worker has not asked anything since. Answers that no intent follows wait `_FLUSH_S` for others.
    """

    def __init__(self, ledger: Ledger, model: str) -> None:
        self._ledger, self._model = ledger, model
        self._intents: list[tuple[asyncio.Future[None], Sequence[Question]]] = []
        self._answers: list[tuple[str, Completion, float | None]] = []
        self._wake = asyncio.Event()
        self._flush: asyncio.TimerHandle | None = None

    async def intend(self, batch: Sequence[Question]) -> None:
        """Returns when the intent is on disk."""
        written = asyncio.get_running_loop().create_future()
        self._intents.append((written, batch))
        self._wake.set()
        await written

    def record(self, key: str, completion: Completion, dollars: float | None) -> None:
        """Takes an answer over; it is on disk before its worker's next intent, or soon."""
        self._answers.append((key, completion, dollars))
        if self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(_FLUSH_S, self._wake.set)

    async def run(self) -> None:
        """Commit whenever something waits, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self.commit()

    def commit(self) -> None:
        """Write all that was handed over, in one transaction."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        waiting = [(written, batch) for written, batch in self._intents if not written.done()]
        intended = [question for _, batch in waiting for question in batch]
        if not self._answers and not intended:
            return
        with self._ledger.transaction():
            self._ledger.record(*_columns(self._answers))
            self._ledger.intend([question.key for question in intended], [question.request for question in intended], self._model)
        self._answers, self._intents = [], []
        for written, _ in waiting:
            written.set_result(None)


def _columns(answers: Sequence[tuple[str, Completion, float | None]]) -> tuple[list[str], list[Completion], list[float | None]]:
    return [key for key, _, _ in answers], [completion for _, completion, _ in answers], [dollars for _, _, dollars in answers]


async def _all_or_first_failure(working: Sequence[asyncio.Task[None]], writing: asyncio.Task[None]) -> None:
    """Wait for all workers; where one of them, or the writer, fails, raise that at once."""
    pending = {*working, writing}
    while pending - {writing}:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


def _characters(request: Request) -> int:
    return sum(len(message.content) for message in request.messages)


def _sum(total: float | None, more: float | None) -> float | None:
    return None if total is None or more is None else total + more


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

"""Put many questions to a model, and each answer into the ledger: bounded in memory and in cost, resumable, the same each time.

Requests are taken a window at a time. In a window equal questions become one, and for a model that answers in batches they are
cut into batches by length. That plan rests on the window alone, not on what stands in the ledger already: so a run that was
killed makes, when it goes on, the very batches that it would have made, and what was padded together is padded together again.

A call leaves when the budget holds what it can cost at most, the endpoint's throttle admits it, and its intent is on disk. What
failed for the moment is asked again by the same worker, later and later.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import random
import signal
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from potstill.errors import BudgetError, EndpointError, StoreError
from potstill.models.base import Counted, Model, Remote
from potstill.models.budget import Budget, Caps, Machine, cost_of, dollars_a_second, is_told
from potstill.models.stretch import Stretch
from potstill.models.throttle import Ticket
from potstill.records import Completion, Cost, Fault, Request, Usage, question_of
from potstill.store.atomic import fingerprint
from potstill.store.events import Progress
from potstill.store.ledger import Ledger

KEY_VERSION = 1
BATCHED_WINDOW = 4096
"""Requests sorted by length together. More would pad less and hold more in memory; 128 batches of 32 leave next to no padding."""
SINGLE_WINDOW = 256
"""Requests planned together where order does not matter: few, so that planning never holds up the calls in flight for long."""
_FLUSH_S = 0.05
_TURNS = 8
_LONGEST_WAIT_S = 60.0


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
    an equal request. `usage` and `dollars` (None: a price is unknown) are those of the calls made now. `passed_over` lines of a
    provider's batch answered nothing that was asked, or what was answered already.
    """

    asked: int
    failed: int
    stood: int
    usage: Usage
    dollars: float | None
    model: Model = dataclasses.field(repr=False)
    ledger: Ledger = dataclasses.field(repr=False)
    passed_over: int = 0

    def of(self, request: Request) -> Completion:
        """The answer to one of the requests that were asked, or its failed call."""
        completion = self.ledger.get(request_key(self.model, request))
        assert completion is not None, "this request was not among those that were asked"
        return completion


def request_key(model: Model, request: Request) -> str:
    """SHA-256 of all that an answer depends on: the model, every message, the sampling, the schema, the sample's number."""
    # What a request need not have is left out where it has none, so that older keys stand.
    optional = {"schema": request.schema, "top_logprobs": request.top_logprobs, "prompt_version": request.prompt_version}
    return fingerprint(
        {name: value for name, value in optional.items() if value}
        | {
            "version": KEY_VERSION,
            "identity": model.identity,
            "messages": [(message.role, message.content) for message in request.messages],
            "sampling": request.sampling.to_json(),
            "sample": request.sample,
        }
    )


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


def plan_batches(model: Model, requests: Sequence[Request]) -> list[list[Question]]:
    """The batches of one window: each question once, longest first, ties by key.

    For a model that takes one question a call: in the given order, samples of one question together where it gives several.
    """
    questions = {key: Question(key, request) for key, request in ((request_key(model, request), request) for request in requests)}
    if model.batch_size == 1:
        return _by_question(list(questions.values()), model.samples_a_call if isinstance(model, Remote) else 1)
    # Longest first: out of memory comes at the start if at all, and the estimate of the time left errs on the safe side.
    length = model.length if isinstance(model, MeasuresLength) else _characters
    ordered = sorted(questions.values(), key=lambda question: (-length(question.request), question.key))
    return [ordered[start : start + model.batch_size] for start in range(0, len(ordered), model.batch_size)]


def _by_question(questions: Sequence[Question], most: int) -> list[list[Question]]:
    if most == 1 or not any(question.request.sample for question in questions):
        return [[question] for question in questions]
    groups: dict[Request, list[Question]] = {}
    for question in questions:
        groups.setdefault(question_of(question.request), []).append(question)
    return [group[start : start + most] for group in groups.values() for start in range(0, len(group), most)]


class Asking:
    """One call of `ask`: a producer plans, `model.concurrency` workers call, one task writes."""

    _machine: Machine

    def __init__(self, model: Model, ledger: Ledger, progress: Progress | None, budget: Budget, stretch: Stretch) -> None:
        self._model, self._ledger, self._progress, self._budget = model, ledger, progress, budget
        self._remote = model if isinstance(model, Remote) else None
        self._counted = model if isinstance(model, Counted) else None
        self._queue: asyncio.Queue[list[Question] | None] = asyncio.Queue(maxsize=model.concurrency)
        self._by_the_hour = dollars_a_second(model) > 0
        self._writer = _Writer(ledger, model.identity, stretch, by_the_hour=self._by_the_hour)
        self._in_flight: set[str] = set()
        self._refused: set[str] = set()
        self._spent = ledger.dollars()
        self._asked = self._failed = self._stood = 0
        self._usage = Usage()
        self._dollars: float | None = 0.0
        self._used_up: BudgetError | None = None
        self._ever_answered = self._patience_is_over = False
        self._untried = 0  # batches that wait in the queue
        self._all_planned = False
        self._put_off: deque[_Part] = deque()

    async def run(self, requests: Iterable[Request]) -> Answers:
        writing = asyncio.create_task(self._writer.run())
        working = [
            asyncio.create_task(self._produce(requests)),
            *(asyncio.create_task(self._work()) for _ in range(self._model.concurrency)),
        ]
        try:
            async with self._budget.asking(self._model) as self._machine:
                await _all_or_first_failure(working, writing)
        finally:
            for task in (*working, writing):
                task.cancel()
            await asyncio.gather(*working, writing, return_exceptions=True)
            self._writer.commit()
            self._ledger.abandon(sorted(self._refused), charged=False)
            self._ledger.abandon(sorted(self._in_flight - self._refused))
        if self._used_up is not None:
            raise self._used_up
        return Answers(self._asked, self._failed, self._stood, self._usage, self._dollars, self._model, self._ledger)

    async def _produce(self, requests: Iterable[Request]) -> None:
        remaining = iter(requests)
        size = SINGLE_WINDOW if self._model.batch_size == 1 else BATCHED_WINDOW
        while self._used_up is None and (window := list(itertools.islice(remaining, size))):
            batches = plan_batches(self._model, window)
            keys = [question.key for batch in batches for question in batch]
            self._writer.commit()  # what has arrived is no longer in flight, so it must be in the ledger before that is asked
            wanted = set(self._ledger.missing(keys)) - self._in_flight
            self._settle(len(window) - len(wanted))
            if wanted and self._ledger.read_only:
                raise StoreError(f"{self._ledger.path}: {self._ledger.read_only} (it is open for reading, so nothing can be asked)")
            if elsewhere := self._ledger.in_batches(sorted(wanted)):
                raise StoreError(
                    f"{self._ledger.path}: {len(elsewhere):,} of these questions wait in a batch that was handed to the provider, and will "
                    "be paid for; run once with `generation.mode: batch`, which fetches their answers"
                )
            for batch in batches:
                if left := [question for question in batch if question.key in wanted]:
                    self._in_flight.update(question.key for question in left)
                    self._untried += 1
                    await self._queue.put(left)
            await asyncio.sleep(0)
        self._all_planned = True
        for _ in range(self._model.concurrency):
            await self._queue.put(None)

    def _settle(self, stood: int) -> None:
        self._stood += stood
        if self._progress is not None and stood:
            self._progress.skip(stood)

    async def _work(self) -> None:
        while (batch := await self._queue.get()) is not None:
            self._untried -= 1
            await self._up_to_a_cap(batch, self._answer(batch))
        while self._put_off:
            part = self._put_off.popleft()
            await self._up_to_a_cap(part.left, self._answer_part(part))

    async def _up_to_a_cap(self, batch: Sequence[Question], answering: Coroutine[None, None, None]) -> None:
        try:
            await answering
        except BudgetError as error:
            self._used_up = error
        if self._used_up is not None:
            self._in_flight.difference_update(question.key for question in batch)

    async def _answer(self, batch: Sequence[Question]) -> None:
        """Ask until each question has its answer, has failed for good, or a cap is reached."""
        for part in self._parts(batch):
            await self._answer_part(_Part(part))

    def _parts(self, batch: Sequence[Question]) -> Iterator[Sequence[Question]]:
        """The batch as one call takes it by now: the endpoint may have turned out to give fewer answers than when it was planned."""
        start = 0
        while start < len(batch):
            size = len(batch) if self._remote is None else self._remote.samples_a_call
            yield batch[start : start + size]
            start += size

    async def _answer_part(self, part: _Part) -> None:
        while part.left and self._used_up is None:
            call = None if self._too_large(part.left) else await self._call(part.left)
            if call is None:
                await self._answer(part.left)
                return
            part.attempts += self._counts(call.completions)
            faults = [completion.fault for completion in call.completions if completion.fault is not None]
            part.failures += bool(faults) and not any(fault.broken or fault.kind == "short" for fault in faults)
            part.left = self._settle_call(call, part)
            if part.left and any(fault.kind != "short" for fault in faults):
                if self._remote is not None and self._remote.throttle.down and self._others_wait():
                    # A row that was not tried yet tells more of the endpoint than one that failed: that may be the row's own doing.
                    self._put_off.append(part)
                    return
                await asyncio.sleep(self._wait_s(part.attempts, faults))
            elif part.left:
                await self._answer(part.left)
                return

    def _too_large(self, batch: Sequence[Question]) -> bool:
        """Whether it is not one call any more: the endpoint turned out to give fewer answers while this waited for its turn."""
        return self._remote is not None and len(batch) > self._remote.samples_a_call

    def _others_wait(self) -> bool:
        """Whether there may be questions that no worker has taken up yet."""
        return self._untried > 0 or not self._all_planned

    async def _call(self, batch: Sequence[Question]) -> _Call | None:
        """One call: held, admitted, intended, made; None where it became too large for one meanwhile."""
        holds = [self._counted.most(question.request) if self._counted is not None else Cost(1) for question in batch]
        most = sum(holds, Cost())
        await self._budget.hold(most)
        ticket = await self._admit(batch, most)
        if self._too_large(batch):
            self._give_back(ticket, most)
            return None
        if reached := self._budget.too_late(self._machine):
            self._give_back(ticket, most)
            raise reached
        try:
            await self._writer.intend(batch, holds)
            completions = await self._model.complete([question.request for question in batch])
        except BaseException as error:
            if self._remote is not None and ticket is not None:
                self._remote.throttle.forget()
            refused = isinstance(error, EndpointError)
            if refused:
                self._refused.update(question.key for question in batch)
            self._budget.settle(most, Cost() if refused else most)
            raise
        assert len(completions) == len(batch), f"{self._model.name} gave {len(completions)} answers to {len(batch)} requests"
        return _Call(batch, self._with_time(completions) if self._by_the_hour else completions, holds, ticket)

    def _with_time(self, completions: Sequence[Completion]) -> list[Completion]:
        """Answers with the time since the last one shared out among them; what may have been charged anyhow is charged with none."""
        told = sum(map(is_told, completions))
        busy_s = self._machine.lap() / told if told else 0.0
        return [dataclasses.replace(completion, busy_s=busy_s) if is_told(completion) else completion for completion in completions]

    async def _admit(self, batch: Sequence[Question], most: Cost) -> Ticket | None:
        if self._remote is None:
            return None
        try:
            return await self._remote.throttle.admit(sum(self._remote.likely(question.request) for question in batch))
        except BaseException:
            self._budget.settle(most, Cost())  # it never left
            raise

    def _give_back(self, ticket: Ticket | None, most: Cost) -> None:
        """An admitted call that will not leave."""
        if self._remote is not None and ticket is not None:
            self._remote.throttle.give_back(ticket)
        self._budget.settle(most, Cost())

    def _settle_call(self, call: _Call, part: _Part) -> list[Question]:
        """Hand what came to the ledger, the budget and the throttle; returns what is to be asked again.

        Raises EndpointError where no other question would fare better.
        """
        again: list[Question] = []
        spent = Cost()
        for question, completion, most in zip(call.batch, call.completions, call.holds, strict=True):
            if self._may_be_tried_again(completion.fault, part):
                again.append(question)
            else:
                if completion.fault is not None:
                    completion = dataclasses.replace(completion, error=after(part.tries) + (completion.error or ""))
                self._in_flight.discard(question.key)
                self._asked += 1
                self._failed += completion.finish_reason == "error"
            spent += self._record(question, completion, most)
        seconds = max(completion.latency_s for completion in call.completions)
        self._machine.slowest_s = max(self._machine.slowest_s, seconds)
        self._budget.settle(sum(call.holds, Cost()), spent, seconds)
        if self._progress is not None:
            self._progress.advance(len(call.batch) - len(again), dollars=self._spent)
        failed = next((answer for answer in call.completions if answer.fault is not None), None)
        self._ever_answered = self._ever_answered or failed is None
        if self._remote is not None and call.ticket is not None:
            # What is a row's own doing tells nothing against the endpoint.
            told = failed is not None and (again or not self._is_to_blame(part))
            fault, reason = (failed.fault, failed.error or "") if failed is not None and told else (None, "")
            self._remote.throttle.settle(call.ticket, _used_tokens(call, self._remote), fault, reason)
        if failed is not None and failed.fault is not None and failed.fault.broken and not again:
            raise EndpointError(
                f"{self._remote.address if self._remote is not None else self._model.name}: {after(part.tries)}{failed.error}"
            )
        return again

    def _record(self, question: Question, completion: Completion, most: Cost) -> Cost:
        """Hand an answer, or a failed call, to the ledger; what it cost, or may have cost."""
        dollars = self._model.dollars(completion)
        self._writer.record(question.key, completion, dollars)
        self._usage += completion.usage
        self._dollars, self._spent = _sum(self._dollars, dollars), _sum(self._spent, dollars)
        return cost_of(completion, 0.0 if self._by_the_hour else dollars, most)

    def _counts(self, completions: Sequence[Completion]) -> bool:
        """Whether this attempt counts against the question: not while the endpoint fails for all, and not where a sample is missing."""
        faults = [completion.fault for completion in completions if completion.fault is not None]
        if self._remote is None or not faults:
            return True
        if any(fault.broken for fault in faults):
            # One that was there before is waited for, as long as the throttle has patience.
            return not self._ever_answered
        return faults[0].kind != "short" and not self._remote.throttle.down

    def _may_be_tried_again(self, fault: Fault | None, part: _Part) -> bool:
        if fault is None or self._remote is None:
            return False
        if fault.kind == "short":
            return True
        return part.attempts < self._remote.max_attempts and not self._is_to_blame(part)

    def _is_to_blame(self, part: _Part) -> bool:
        """Whether it is a question's own doing that it fails, and not the endpoint's, which has answered all others.

        It is where it has failed too often, or patience with all those that still fail is over.
        """
        assert self._remote is not None
        self._patience_is_over = self._patience_is_over or self._remote.throttle.out_of_patience
        if self._others_wait() or not part.failures or (part.failures < self._remote.max_attempts and not self._patience_is_over):
            return False
        return self._ever_answered or self._ledger.has_answers(self._model.identity)

    def _wait_s(self, attempt: int, faults: Sequence[Fault]) -> float:
        assert self._remote is not None
        backoff = min(self._remote.backoff_s * 2.0 ** (max(attempt, 1) - 1), _LONGEST_WAIT_S)
        # Jitter, so that calls which failed together do not come back together.
        return max(backoff * random.uniform(0.5, 1.5), *(fault.retry_after_s for fault in faults))


@dataclass(slots=True)
class _Part:
    """Questions that go into one call, those that are left of them, and how often they failed.

    `attempts` count against the questions; `failures` are all that the endpoint gave, those while it failed for others included.
    """

    left: Sequence[Question]
    attempts: int = 0
    failures: int = 0

    @property
    def tries(self) -> int:
        """How often it was tried, as a failure tells it."""
        return max(self.attempts, self.failures)


@dataclass(frozen=True, slots=True)
class _Call:
    """One call that came back: its questions, what came, what was held for each, and how it was admitted."""

    batch: Sequence[Question]
    completions: Sequence[Completion]
    holds: Sequence[Cost]
    ticket: Ticket | None


def _used_tokens(call: _Call, model: Remote) -> int:
    """The tokens that a call counts with at its endpoint: those it told, or about as many as it uses (not the most that it may)."""
    return sum(
        completion.usage.input_tokens + completion.usage.output_tokens if is_told(completion) else model.likely(question.request)
        for question, completion in zip(call.batch, call.completions, strict=True)
    )


def after(attempts: int) -> str:
    """How a failure begins that was tried for so often."""
    return f"after {attempts} attempt{'s' if attempts > 1 else ''}: "


class _Writer:
    """Group commit: what is handed over while a transaction runs goes into the next one.

    An intent is awaited, and takes all answers that arrived before it along: so what is not yet on disk when the process is
    killed was in flight, or its worker has not asked anything since. Answers that no intent follows wait `_FLUSH_S` for others.
    """

    def __init__(self, ledger: Ledger, model: str, stretch: Stretch, *, by_the_hour: bool) -> None:
        self._ledger, self._model, self._stretch, self._by_the_hour = ledger, model, stretch, by_the_hour
        self._intents: list[tuple[asyncio.Future[None], Sequence[Question], Sequence[Cost]]] = []
        self._answers: list[tuple[str, Completion, float | None]] = []
        self._wake = asyncio.Event()
        self._flush: asyncio.TimerHandle | None = None

    async def intend(self, batch: Sequence[Question], holds: Sequence[Cost]) -> None:
        """Returns when the intent is on disk."""
        written = asyncio.get_running_loop().create_future()
        self._intents.append((written, batch, holds))
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
            await self._company()
            self._wake.clear()
            self.commit()

    async def _company(self) -> None:
        """Wait for more as long as it comes in every turn of the loop: a transaction costs the same for one as for many."""
        for _ in range(_TURNS):
            before = len(self._intents)
            await asyncio.sleep(0)
            if len(self._intents) == before:
                return

    def commit(self) -> None:
        """Write all that was handed over, in one transaction."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        waiting = [intent for intent in self._intents if not intent[0].done()]
        intended = [question for _, batch, _ in waiting for question in batch]
        holds = [most for *_, held in waiting for most in held]
        if not self._answers and not intended:
            return
        with self._ledger.transaction():
            self._stretch.note(sum(dollars or 0.0 for *_, dollars in self._answers) if self._by_the_hour else 0.0)
            self._ledger.record(*_columns(self._answers))
            keys, requests = [question.key for question in intended], [question.request for question in intended]
            self._ledger.intend(keys, requests, self._model, holds)
        self._answers, self._intents = [], []
        for written, *_ in waiting:
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

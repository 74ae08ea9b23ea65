"""Asking one model in calls: planned a window at a time, as many in flight as help, failures tried again.

Requests are taken a window at a time. In a window equal questions become one, and for a model that answers in batches they are
cut into batches by length. That plan rests on the window alone, not on what stands in the ledger already: so a run that was
killed makes, when it goes on, the very batches that it would have made, and what was padded together is padded together again.

A call leaves when the budget holds what it can cost at most, the endpoint's throttle admits it, and its intent is on disk. What
failed for the moment is asked again by the same worker, later and later.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Sequence

from potstill.errors import BudgetError, EndpointError, StoreError
from potstill.models.base import Counted, Model, Remote
from potstill.models.budget import Budget, Machine, cost_of, dollars_a_second, is_told
from potstill.models.calls import Call, Part, after, used_tokens
from potstill.models.questions import Answers, Question, plan_batches
from potstill.models.stretch import Stretch
from potstill.models.throttle import Ticket
from potstill.models.writing import Writer
from potstill.records import Completion, Cost, Fault, Request, Usage
from potstill.store.events import Progress
from potstill.store.ledger import Ledger

BATCHED_WINDOW = 4096
"""Requests sorted by length together. More would pad less and hold more in memory; 128 batches of 32 leave next to no padding."""
SINGLE_WINDOW = 256
"""Requests planned together where order does not matter: few, so that planning never holds up the calls in flight for long."""
_LONGEST_WAIT_S = 60.0


class Asking:
    """One call of `ask`: a producer plans, `model.concurrency` workers call, one task writes."""

    _machine: Machine

    def __init__(self, model: Model, ledger: Ledger, progress: Progress | None, budget: Budget, stretch: Stretch) -> None:
        self._model, self._ledger, self._progress, self._budget = model, ledger, progress, budget
        self._remote = model if isinstance(model, Remote) else None
        self._counted = model if isinstance(model, Counted) else None
        self._queue: asyncio.Queue[list[Question] | None] = asyncio.Queue(maxsize=model.concurrency)
        self._by_the_hour = dollars_a_second(model) > 0
        self._writer = Writer(ledger, model.identity, stretch, by_the_hour=self._by_the_hour)
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
        self._put_off: deque[Part] = deque()

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
            await self._answer_part(Part(part))

    def _parts(self, batch: Sequence[Question]) -> Iterator[Sequence[Question]]:
        """The batch as one call takes it by now: the endpoint may have turned out to give fewer answers than when it was planned."""
        start = 0
        while start < len(batch):
            size = len(batch) if self._remote is None else self._remote.samples_a_call
            yield batch[start : start + size]
            start += size

    async def _answer_part(self, part: Part) -> None:
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

    async def _call(self, batch: Sequence[Question]) -> Call | None:
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
        return Call(batch, self._with_time(completions) if self._by_the_hour else completions, holds, ticket)

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

    def _settle_call(self, call: Call, part: Part) -> list[Question]:
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
            self._remote.throttle.settle(call.ticket, used_tokens(call, self._remote), fault, reason)
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

    def _may_be_tried_again(self, fault: Fault | None, part: Part) -> bool:
        if fault is None or self._remote is None:
            return False
        if fault.kind == "short":
            return True
        return part.attempts < self._remote.max_attempts and not self._is_to_blame(part)

    def _is_to_blame(self, part: Part) -> bool:
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


async def _all_or_first_failure(working: Sequence[asyncio.Task[None]], writing: asyncio.Task[None]) -> None:
    """Wait for all workers; where one of them, or the writer, fails, raise that at once."""
    pending = {*working, writing}
    while pending - {writing}:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


def _sum(total: float | None, more: float | None) -> float | None:
    return None if total is None or more is None else total + more

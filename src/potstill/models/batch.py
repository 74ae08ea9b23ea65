"""Put many questions to a model by its provider's batches: at half the price, within a day, and none of them lost or paid twice.

What is missing in the ledger is cut into batches. Our own id of a batch, its questions and the most that they can cost are on disk
before it is handed in, and the id stands in the provider's metadata. So whatever happens meanwhile, the next process finds each batch
again: by the provider's id, or, where that never reached the disk, by ours. A batch that the provider does not know was never handed
in, and its questions are asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import itertools
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from potstill.errors import BudgetError, EndpointError
from potstill.models import openai_batches
from potstill.models.ask import Answers, Asking, Asks, Question, after, ask_all, request_key
from potstill.models.base import Model
from potstill.models.budget import Budget, cost_of
from potstill.models.openai_batches import BatchDesk, Line, ProviderBatch, id_in, read_line
from potstill.models.openai_http import OpenAIModel
from potstill.models.openai_wire import failure
from potstill.models.stretch import Stretch
from potstill.records import Completion, Cost, Fault, Request, Usage
from potstill.store.events import Progress
from potstill.store.ledger import Ledger
from potstill.store.ledger_batches import Waiting

PRICE = 0.5
"""What an answer costs in a batch, of its price by itself: half at OpenAI, Azure, Anthropic, Groq, Mistral and Together."""
POLL_S = 15.0
"""Seconds until a batch is looked at first; then half as long again each time, up to twenty times as long."""
_POLL_GROWTH, _POLL_MOST = 1.5, 20
_WINDOW = 1000
_LINES_AT_ONCE = 500
_UNANSWERED = {
    "completed": ("the batch ended without an answer to this", Fault("down", charged=True)),
    "expired": ("the batch expired before this was answered", Fault("down")),
}


async def ask_batched(
    model: OpenAIModel,
    requests: Iterable[Request],
    ledger: Ledger,
    progress: Progress | None = None,
    budget: Budget | None = None,
    *,
    poll_s: float = POLL_S,
) -> Answers:
    """`ask_async` by the provider's batches: the same contract, errors included.

    A cancellation, Ctrl-C, SIGTERM and a kill leave batches at the provider as they are: the next call, with the same ledger, fetches
    what comes of them. Rows whose failure may pass, and those that an expired batch left unanswered, are asked again in another batch,
    `max_attempts` times in all. EndpointError is raised where the provider refuses a batch, or somebody has cancelled it there.
    """
    [answers] = await ask_all([(model, requests)], ledger, progress, budget, functools.partial(by_batches, poll_s=poll_s))
    return answers


def by_batches(
    model: Model, ledger: Ledger, progress: Progress | None, budget: Budget, stretch: Stretch, *, poll_s: float = POLL_S
) -> Asks:
    """For `ask_all`: an endpoint's model is asked by batches, any other in calls."""
    if isinstance(model, OpenAIModel):
        return BatchedAsking(model, ledger, progress, budget, poll_s=poll_s)
    return Asking(model, ledger, progress, budget, stretch)


def batch_price(cost: Cost) -> Cost:
    """What a call costs in a batch, by what it costs by itself."""
    return dataclasses.replace(cost, dollars=None if cost.dollars is None else cost.dollars * PRICE)


@dataclass
class _Filling:
    """A batch that is being put together: its lines on disk under no name, its intents in the ledger but for the last few."""

    id: str
    lines: IO[bytes]
    count: int = 0
    size: int = 0
    held: Cost = field(default_factory=Cost)
    unwritten: list[tuple[Question, Cost]] = field(default_factory=list)

    def add(self, question: Question, size: int, most: Cost) -> None:
        self.count += 1
        self.size += size
        self.held += most
        self.unwritten.append((question, most))


@dataclass
class _Batch:
    """A batch at the provider: our id, theirs, what is held for it, and how far it is by their word."""

    id: str
    provider_id: str
    count: int
    held: Cost
    done: int = 0
    checked: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class _Reading:
    """What a pass over a batch's files found: how many lines, and by their ids those that cannot be read."""

    lines: int = 0
    unreadable: int = 0
    torn: dict[str, str] = field(default_factory=dict)

    def note(self, lines: Sequence[bytes], read: Sequence[Line | None]) -> None:
        self.lines += len(lines)
        for line, understood in zip(lines, read, strict=True):
            if understood is None:
                self.unreadable += 1
                if (key := id_in(line)) is not None:
                    self.torn[key] = line.decode("utf-8", "replace")

    def whole(self, told: ProviderBatch) -> bool:
        """Whether this is all that the provider says there is."""
        files = told.output_file or told.error_file
        return files is None or (not self.unreadable and self.lines >= told.done)


class BatchedAsking:
    """Asking one model by batches: they are handed in one by one, and followed together.

    The next is handed in when the provider has checked the last: a wrong model name stops the first, and a full queue the one that
    is too many.
    """

    def __init__(self, model: OpenAIModel, ledger: Ledger, progress: Progress | None, budget: Budget, *, poll_s: float = POLL_S) -> None:
        self._model, self._ledger, self._progress, self._budget, self._poll_s = model, ledger, progress, budget, poll_s
        self._desk = BatchDesk(model, ledger.path.parent, poll_s)
        self._filling: _Filling | None = None
        self._following: dict[asyncio.Task[None], _Batch] = {}
        self._adopted: set[str] = set()
        """Keys in batches of an earlier process that have not come up among the requests."""
        self._again: dict[str, Question] = {}
        self._attempts: Counter[str] = Counter()
        self._most_lines = openai_batches.MOST_LINES
        self._most_batches: int | None = None
        self._broken: EndpointError | None = None
        self._asked = self._failed = self._stood = self._passed_over = 0
        self._usage = Usage()
        self._made, self._spent = Cost(), Cost(dollars=ledger.dollars())

    async def run(self, requests: Iterable[Request]) -> Answers:
        """Ask; see `ask_batched`."""
        used_up: BudgetError | None = None
        try:
            async with self._budget.asking(self._model):
                await self._adopt()
                try:
                    await self._ask(self._wanted(requests))
                except BudgetError as error:
                    used_up = error
                await self._all_back()
        finally:
            await self._leave()
        if used_up is not None:
            raise used_up
        counts = (self._asked, self._failed, self._stood)
        return Answers(*counts, self._usage, self._made.dollars, self._model, self._ledger, passed_over=self._passed_over)

    async def _leave(self) -> None:
        """Let go of everything here; what is at the provider stays there."""
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
        if self._filling is not None:
            self._filling.lines.close()
            self._budget.settle(self._filling.held, self._filling.held)

    async def _adopt(self) -> None:
        """Follow the batches of earlier processes; what they can cost was counted as spent."""
        for ours, known in self._ledger.open_batches(self._model.identity):
            keys, held = self._ledger.keys_waiting(ours), self._ledger.held(ours)
            self._budget.reclaim(held)
            told = await self._desk.find(ours) if known is None and keys else None
            provider_id = told.id if told is not None else known
            if provider_id is None:
                self._ledger.note_batch(ours, "lost")
                self._budget.settle(held, Cost())
                continue
            self._ledger.note_batch(ours, "submitted", provider_id)
            self._adopted.update(keys)
            self._follow(_Batch(ours, provider_id, len(keys), held))

    def _wanted(self, requests: Iterable[Request]) -> Iterator[Question]:
        """Each question that has no answer and waits in no batch; the others are counted."""
        remaining = iter(requests)
        while window := list(itertools.islice(remaining, _WINDOW)):
            questions = {
                key: Question(key, request) for key, request in ((request_key(self._model, request), request) for request in window)
            }
            self._write_intents()
            missing = self._ledger.missing(list(questions))
            elsewhere = self._ledger.in_batches(missing) | self._again.keys()
            wanted = [key for key in missing if key not in elsewhere]
            # What an earlier process has handed in counts when it comes back, as what is handed in now does.
            adopted = self._adopted & questions.keys()
            self._adopted -= adopted
            self._settle(len(window) - len(wanted) - len(adopted))
            yield from (questions[key] for key in wanted)

    def _settle(self, stood: int) -> None:
        self._stood += stood
        if self._progress is not None and stood:
            self._progress.skip(stood)

    async def _ask(self, questions: Iterable[Question]) -> None:
        """Hand the questions in, then those that are to be asked again, until there are none."""
        while True:
            for question in questions:
                await self._put(question)
            await self._submit()
            await self._all_back()
            questions = [question for key, question in self._again.items() if key not in self._adopted]
            self._again = {}
            if not questions:
                return

    async def _put(self, question: Question) -> None:
        """Add a question to the batch that is being put together; that is handed in first where it is full, or the budget."""
        line = self._desk.line(question.key, question.request)
        most = batch_price(self._model.most(question.request))
        if self._filling is not None and (
            self._filling.count >= self._most_lines or self._filling.size + len(line) > openai_batches.MOST_BYTES
        ):
            await self._submit()
        if not self._budget.takes(most):
            await self._submit()
            await self._hold(most)
        if self._filling is None:
            self._filling = _Filling(uuid.uuid4().hex, self._desk.new_file())
            self._ledger.open_batch(self._filling.id, self._model.identity)
        self._desk.write(self._filling.lines, line)
        self._filling.add(question, len(line), most)
        if len(self._filling.unwritten) >= _WINDOW:
            self._write_intents()
            await asyncio.sleep(0)

    async def _hold(self, most: Cost) -> None:
        """Wait until the budget takes this; batches that come back may give back what it needs. Raises BudgetError where none can."""
        while self._following:
            await self._one_back()
            if self._budget.takes(most):
                return
        await self._budget.hold(most)

    def _write_intents(self) -> None:
        filling = self._filling
        if filling is None or not filling.unwritten:
            return
        keys, requests = [question.key for question, _ in filling.unwritten], [question.request for question, _ in filling.unwritten]
        self._ledger.intend(keys, requests, self._model.identity, [most for _, most in filling.unwritten], batch=filling.id)
        filling.unwritten = []

    async def _submit(self) -> None:
        """Hand in the batch that was put together, and wait until the provider has checked it."""
        if self._filling is None:
            return
        self._write_intents()
        while self._most_batches is not None and len(self._following) >= self._most_batches:
            await self._one_back()
        filling = self._filling
        told = await self._desk.submit(filling.lines, filling.id)
        self._ledger.note_batch(filling.id, "submitted", told.id)
        self._filling = None
        filling.lines.close()
        batch = _Batch(filling.id, told.id, filling.count, filling.held)
        self._follow(batch)
        await batch.checked.wait()
        self._reap()

    def _follow(self, batch: _Batch) -> None:
        self._following[asyncio.create_task(self._see_through(batch))] = batch

    async def _one_back(self) -> None:
        await asyncio.wait(self._following, return_when=asyncio.FIRST_COMPLETED)
        self._reap()

    async def _all_back(self) -> None:
        while self._following:
            await self._one_back()

    def _reap(self) -> None:
        """Forget the batches that are done with; raises what went wrong with them."""
        for task in [task for task in self._following if task.done()]:
            del self._following[task]
            task.result()

    async def _see_through(self, batch: _Batch) -> None:
        """Look at a batch until it is over, and take what came of it. Raises EndpointError where that stops everything."""
        spent = batch.held  # until it is known
        try:
            told = await self._over(batch)
            taken, torn = await self._take_lines(batch, told)
            spent = taken + self._take_rest(batch, told, torn)
        finally:
            batch.checked.set()
            self._budget.settle(batch.held, spent)
        self._stop_if_broken(batch, told)

    async def _over(self, batch: _Batch) -> ProviderBatch:
        wait = self._poll_s
        while True:
            told = await self._desk.look(batch.provider_id)
            batch.done = told.done
            if told.status != "validating":
                batch.checked.set()
            self._tell()
            if told.over:
                return told
            await asyncio.sleep(wait)
            wait = min(wait * _POLL_GROWTH, self._poll_s * _POLL_MOST)

    def _tell(self, by: int = 0) -> None:
        if self._progress is not None:
            batches = self._following.values()
            total, done = sum(batch.count for batch in batches), sum(batch.done for batch in batches)
            note = f"{len(batches)} batch{'es' if len(batches) > 1 else ''} at the provider, {done:,} of {total:,} done"
            self._progress.advance(by, dollars=self._spent.dollars, note=note)

    async def _take_lines(self, batch: _Batch, told: ProviderBatch) -> tuple[Cost, dict[str, str]]:
        """Take the answers and errors of a batch's files into the ledger; what they cost, and by id the lines that stayed unreadable.

        Files that are not whole are fetched again before anything is given up: what is in them is paid for.
        """
        spent, taken, fetches = Cost(), 0, 0
        while True:
            reading = _Reading()
            async with contextlib.aclosing(self._lines(batch, told)) as files:
                async for lines in files:
                    read = [read_line(line) for line in lines]
                    reading.note(lines, read)
                    answers = self._answers(batch, told, read)
                    taken += len(answers)
                    spent += self._record(answers)
            fetches += 1
            if reading.whole(told) or fetches >= self._model.max_attempts or not self._ledger.keys_waiting(batch.id):
                self._passed_over += max(reading.lines - taken, 0)
                return spent, reading.torn
            await asyncio.sleep(self._model.backoff_s * 2.0 ** (fetches - 1))

    async def _lines(self, batch: _Batch, told: ProviderBatch) -> AsyncGenerator[list[bytes], None]:
        """The lines of a batch's files, some at a time."""
        for file in (told.output_file, told.error_file):
            if file is None:
                continue
            with await self._desk.fetch(file, batch.provider_id) as lines:
                while some := list(itertools.islice(lines, _LINES_AT_ONCE)):
                    yield some
                    await asyncio.sleep(0)

    def _answers(self, batch: _Batch, told: ProviderBatch, lines: Sequence[Line | None]) -> list[tuple[Waiting, Completion]]:
        """What some lines answer, in whatever order they come; a line that answers nothing, or what is answered already, is passed over."""
        found: dict[str, Line] = {}
        for line in lines:
            if line is not None:
                found.setdefault(line.id, line)
        waiting = self._ledger.waiting(batch.id, list(found))
        return [(question, self._read(found[question.key], question.request, told)) for question in waiting]

    def _read(self, line: Line, request: Request, told: ProviderBatch) -> Completion:
        if not line.status:
            return failure(self._model.without_key(line.words), self._model.name, fault=Fault("down"))
        try:
            completion = self._model.read(line.status, self._model.without_key(line.body), request)
        except EndpointError as error:
            self._broken = self._broken or error
            return failure(str(error), self._model.name)
        return completion if completion.finish_reason == "error" else dataclasses.replace(completion, latency_s=told.seconds)

    def _take_rest(self, batch: _Batch, told: ProviderBatch, torn: Mapping[str, str]) -> Cost:
        """What becomes of a batch's questions that no line has answered; with that, the batch is done with."""
        waiting = self._ledger.waiting(batch.id)
        rest = [question for question in waiting if question.key not in torn]
        with self._ledger.transaction():
            spent = self._record([(question, self._torn(torn[question.key])) for question in waiting if question.key in torn])
            if told.status in _UNANSWERED:
                words, fault = _UNANSWERED[told.status]
                spent += self._record([(question, failure(words, self._model.name, fault=fault)) for question in rest])
            elif told.queue_full and self._make_room(batch):
                self._again |= {question.key: Question(question.key, question.request) for question in rest}
            self._ledger.note_batch(batch.id, "collected")
        return spent

    def _torn(self, line: str) -> Completion:
        words = "its line in the batch's file cannot be read"
        failed = failure(words, self._model.name, fault=Fault("garbled", charged=True))
        return dataclasses.replace(failed, raw=self._model.without_key(line))

    def _record(self, answers: Sequence[tuple[Waiting, Completion]]) -> Cost:
        """Take answers and failures into the ledger; what they cost, as far as this run pays for them."""
        spent, settled = Cost(), 0
        prices, completions = [], []
        for question, completion in answers:
            price = batch_price(Cost(dollars=self._model.dollars(completion))).dollars
            if question.own:
                spent += cost_of(completion, price, question.most)
                self._spent += Cost(dollars=price)
            self._made += Cost(dollars=price)
            self._usage += completion.usage
            prices.append(price)
            completions.append(self._with_attempts(question, completion))
            settled += question.key not in self._again
            self._failed += completion.finish_reason == "error" and question.key not in self._again
        self._ledger.record([question.key for question, _ in answers], completions, prices)
        self._asked += settled
        self._tell(settled)
        return spent

    def _with_attempts(self, question: Waiting, completion: Completion) -> Completion:
        """Put a question off for another batch, where its failure may pass; else its failure says how often it was tried."""
        if completion.fault is None:
            return completion
        self._attempts[question.key] += 1
        attempts = self._attempts[question.key]
        if attempts < self._model.max_attempts:
            self._again[question.key] = Question(question.key, question.request)
        return dataclasses.replace(completion, error=f"{after(attempts)}{completion.error}")

    def _make_room(self, batch: _Batch) -> bool:
        """The provider takes no more at a time than what is there already: hand in fewer batches, or smaller ones; whether that helps."""
        others = len(self._following) - 1
        if others:
            self._most_batches = min(self._most_batches or others, others)
        else:
            self._most_lines = batch.count // 2
        return self._most_lines > 0

    def _stop_if_broken(self, batch: _Batch, told: ProviderBatch) -> None:
        """Raise where no other batch would fare better."""
        if self._broken is not None:
            raise self._broken
        where = f"{self._desk.address}: batch {batch.provider_id}"
        if told.status == "cancelled":
            raise EndpointError(f"{where} was cancelled there; what it had answered is kept, and the same command asks the rest again")
        if told.status == "failed" and not (told.queue_full and self._most_lines):
            raise EndpointError(f"{where} was refused: {told.words}")

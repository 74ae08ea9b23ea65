"""Put many questions to a model by its provider's batches: at half the price, within a day, and none of them lost or paid twice.

What is missing in the ledger is cut into batches. Our own id of a batch, its questions and the most that they can cost are on disk
before it is handed in, and the id stands in the provider's metadata. So whatever happens meanwhile, the next process finds each batch
again: by the provider's id, or, where that never reached the disk, by ours. A batch that the provider does not know was never handed
in, and its questions are asked again.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import uuid
from collections.abc import Iterable, Iterator

from potstill.errors import BudgetError, EndpointError
from potstill.models import openai_batches
from potstill.models.ask import Asks, ask_all
from potstill.models.asking import Asking
from potstill.models.base import Model
from potstill.models.batch_parts import Batch, Filling, batch_price
from potstill.models.batch_results import Results
from potstill.models.budget import Budget
from potstill.models.openai_batches import BatchDesk, ProviderBatch
from potstill.models.openai_http import OpenAIModel
from potstill.models.questions import Answers, Question, request_key
from potstill.models.stretch import Stretch
from potstill.records import Cost, Request
from potstill.store.events import Progress
from potstill.store.ledger import Ledger

POLL_S = 15.0
"""Seconds until a batch is looked at first; then half as long again each time, up to twenty times as long."""
_POLL_GROWTH, _POLL_MOST = 1.5, 20
_WINDOW = 1000


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


class BatchedAsking:
    """Asking one model by batches: they are handed in one by one, and followed together.

    The next is handed in when the provider has checked the last: a wrong model name stops the first, and a full queue the one that
    is too many.
    """

    def __init__(self, model: OpenAIModel, ledger: Ledger, progress: Progress | None, budget: Budget, *, poll_s: float = POLL_S) -> None:
        self._model, self._ledger, self._progress, self._budget, self._poll_s = model, ledger, progress, budget, poll_s
        self._desk = BatchDesk(model, ledger.path.parent, poll_s)
        self._filling: Filling | None = None
        self._following: dict[asyncio.Task[None], Batch] = {}
        self._adopted: set[str] = set()
        """Keys in batches of an earlier process that have not come up among the requests."""
        self._most_lines = openai_batches.MOST_LINES
        self._most_batches: int | None = None
        self._stood = 0
        self._results = Results(model, ledger, self._desk, self._tell)

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
        found = self._results
        counts = (found.asked, found.failed, self._stood)
        return Answers(*counts, found.usage, found.made.dollars, self._model, self._ledger, passed_over=found.passed_over)

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
            self._follow(Batch(ours, provider_id, len(keys), held))

    def _wanted(self, requests: Iterable[Request]) -> Iterator[Question]:
        """Each question that has no answer and waits in no batch; the others are counted."""
        remaining = iter(requests)
        while window := list(itertools.islice(remaining, _WINDOW)):
            questions = {
                key: Question(key, request) for key, request in ((request_key(self._model, request), request) for request in window)
            }
            self._write_intents()
            missing = self._ledger.missing(list(questions))
            elsewhere = self._ledger.in_batches(missing) | self._results.again.keys()
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
            questions = [question for key, question in self._results.again.items() if key not in self._adopted]
            self._results.again = {}
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
            self._filling = Filling(uuid.uuid4().hex, self._desk.new_file())
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
        batch = Batch(filling.id, told.id, filling.count, filling.held)
        self._follow(batch)
        await batch.checked.wait()
        self._reap()

    def _follow(self, batch: Batch) -> None:
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

    async def _see_through(self, batch: Batch) -> None:
        """Look at a batch until it is over, and take what came of it. Raises EndpointError where that stops everything."""
        spent = batch.held  # until it is known
        try:
            told = await self._over(batch)
            taken, torn = await self._results.take_lines(batch, told)
            spent = taken + self._results.take_rest(batch, told, torn, again=told.queue_full and self._make_room(batch))
        finally:
            batch.checked.set()
            self._budget.settle(batch.held, spent)
        self._stop_if_broken(batch, told)

    async def _over(self, batch: Batch) -> ProviderBatch:
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
            self._progress.advance(by, dollars=self._results.spent.dollars, note=note)

    def _make_room(self, batch: Batch) -> bool:
        """The provider takes no more at a time than what is there already: hand in fewer batches, or smaller ones; whether that helps."""
        others = len(self._following) - 1
        if others:
            self._most_batches = min(self._most_batches or others, others)
        else:
            self._most_lines = batch.count // 2
        return self._most_lines > 0

    def _stop_if_broken(self, batch: Batch, told: ProviderBatch) -> None:
        """Raise where no other batch would fare better."""
        if self._results.broken is not None:
            raise self._results.broken
        where = f"{self._desk.address}: batch {batch.provider_id}"
        if told.status == "cancelled":
            raise EndpointError(f"{where} was cancelled there; what it had answered is kept, and the same command asks the rest again")
        if told.status == "failed" and not (told.queue_full and self._most_lines):
            raise EndpointError(f"{where} was refused: {told.words}")

"""What comes of a provider's batches, into the ledger: answers, failures, and what is to be asked again."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

from potstill.errors import EndpointError
from potstill.models.batch_parts import Batch, Reading, batch_price
from potstill.models.budget import cost_of
from potstill.models.calls import after
from potstill.models.openai_batches import BatchDesk, Line, ProviderBatch, read_line
from potstill.models.openai_http import OpenAIModel
from potstill.models.openai_wire import failure
from potstill.models.questions import Question
from potstill.records import Completion, Cost, Fault, Request, Usage
from potstill.store.ledger import Ledger
from potstill.store.ledger_batches import Waiting

_LINES_AT_ONCE = 500
_UNANSWERED = {
    "completed": ("the batch ended without an answer to this", Fault("down", charged=True)),
    "expired": ("the batch expired before this was answered", Fault("down")),
}


class Results:
    """What one model's batches have brought so far: how many answers and failures, what they cost, and the questions to ask `again`.

    `broken` is why no other question would fare better; `tell` is told of questions that are settled.
    """

    def __init__(self, model: OpenAIModel, ledger: Ledger, desk: BatchDesk, tell: Callable[[int], None]) -> None:
        self._model, self._ledger, self._desk, self._tell = model, ledger, desk, tell
        self.again: dict[str, Question] = {}
        self.broken: EndpointError | None = None
        self.asked = self.failed = self.passed_over = 0
        self.usage = Usage()
        self.made, self.spent = Cost(), Cost(dollars=ledger.dollars())
        self._attempts: Counter[str] = Counter()

    async def take_lines(self, batch: Batch, told: ProviderBatch) -> tuple[Cost, dict[str, str]]:
        """Take the answers and errors of a batch's files into the ledger; what they cost, and by id the lines that stayed unreadable.

        Files that are not whole are fetched again before anything is given up: what is in them is paid for.
        """
        spent, taken, fetches = Cost(), 0, 0
        while True:
            reading = Reading()
            async with contextlib.aclosing(self._lines(batch, told)) as files:
                async for lines in files:
                    read = [read_line(line) for line in lines]
                    reading.note(lines, read)
                    answers = self._answers(batch, told, read)
                    taken += len(answers)
                    spent += self._record(answers)
            fetches += 1
            if reading.whole(told) or fetches >= self._model.max_attempts or not self._ledger.keys_waiting(batch.id):
                self.passed_over += max(reading.lines - taken, 0)
                return spent, reading.torn
            await asyncio.sleep(self._model.backoff_s * 2.0 ** (fetches - 1))

    async def _lines(self, batch: Batch, told: ProviderBatch) -> AsyncGenerator[list[bytes], None]:
        """The lines of a batch's files, some at a time."""
        for file in (told.output_file, told.error_file):
            if file is None:
                continue
            with await self._desk.fetch(file, batch.provider_id) as lines:
                while some := list(itertools.islice(lines, _LINES_AT_ONCE)):
                    yield some
                    await asyncio.sleep(0)

    def _answers(self, batch: Batch, told: ProviderBatch, lines: Sequence[Line | None]) -> list[tuple[Waiting, Completion]]:
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
            self.broken = self.broken or error
            return failure(str(error), self._model.name)
        return completion if completion.finish_reason == "error" else dataclasses.replace(completion, latency_s=told.seconds)

    def take_rest(self, batch: Batch, told: ProviderBatch, torn: Mapping[str, str], *, again: bool) -> Cost:
        """What becomes of a batch's questions that no line has answered; with that, the batch is done with.

        Of one that was refused as a whole, they are asked `again`, or fall with the run.
        """
        waiting = self._ledger.waiting(batch.id)
        rest = [question for question in waiting if question.key not in torn]
        with self._ledger.transaction():
            spent = self._record([(question, self._torn(torn[question.key])) for question in waiting if question.key in torn])
            if told.status in _UNANSWERED:
                words, fault = _UNANSWERED[told.status]
                spent += self._record([(question, failure(words, self._model.name, fault=fault)) for question in rest])
            elif again:
                self.again |= {question.key: Question(question.key, question.request) for question in rest}
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
                self.spent += Cost(dollars=price)
            self.made += Cost(dollars=price)
            self.usage += completion.usage
            prices.append(price)
            completions.append(self._with_attempts(question, completion))
            settled += question.key not in self.again
            self.failed += completion.finish_reason == "error" and question.key not in self.again
        self._ledger.record([question.key for question, _ in answers], completions, prices)
        self.asked += settled
        self._tell(settled)
        return spent

    def _with_attempts(self, question: Waiting, completion: Completion) -> Completion:
        """Put a question off for another batch, where its failure may pass; else its failure says how often it was tried."""
        if completion.fault is None:
            return completion
        self._attempts[question.key] += 1
        attempts = self._attempts[question.key]
        if attempts < self._model.max_attempts:
            self.again[question.key] = Question(question.key, question.request)
        return dataclasses.replace(completion, error=f"{after(attempts)}{completion.error}")

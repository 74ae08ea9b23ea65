"""Intents and answers into the ledger, those that come together in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from potstill.models.questions import Question
from potstill.models.stretch import Stretch
from potstill.records import Completion, Cost
from potstill.store.ledger import Ledger

_FLUSH_S = 0.05
_TURNS = 8
_APART, _LEAST_APART_S, _MOST_APART_S = 0.5, 0.0005, 0.002
"""Calls that were written down together leave apart, by half of the time that usually lies between two: as one lot they would be
answered as one, time and again, and each wait until all are seen to. What is less than a timer can tell is nothing."""
_USUAL = 64
"""Calls that the usual time between two is taken from."""


class Writer:
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
        self._between_s = 0.0  # two calls, usually
        self._released_at: float | None = None

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
        self._release([written for written, *_ in waiting])

    def _release(self, written: Sequence[asyncio.Future[None]]) -> None:
        """Let calls leave whose intents are on disk: one at once, the others one after the other."""
        if not written:
            return
        loop = asyncio.get_running_loop()
        now, count = loop.time(), len(written)
        if self._released_at is not None:
            self._between_s += (now - self._released_at - count * self._between_s) / max(count, _USUAL)
        self._released_at = now
        apart_s = min(self._between_s * _APART, _MOST_APART_S)
        for place, one in enumerate(written):
            if place and apart_s >= _LEAST_APART_S:
                loop.call_later(place * apart_s, _let_go, one)
            else:
                one.set_result(None)


def _let_go(written: asyncio.Future[None]) -> None:
    if not written.done():  # its worker may have been cancelled
        written.set_result(None)


def _columns(answers: Sequence[tuple[str, Completion, float | None]]) -> tuple[list[str], list[Completion], list[float | None]]:
    return [key for key, _, _ in answers], [completion for _, completion, _ in answers], [dollars for _, _, dollars in answers]

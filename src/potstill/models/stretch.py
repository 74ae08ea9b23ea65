"""A stretch of asking as the ledger has it: how long it took, and what machines by the hour cost meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

from potstill.errors import StoreError
from potstill.models.budget import Budget
from potstill.store.ledger import Ledger

AHEAD_S = 10.0
"""Time is on disk before it has passed, by so much at most, so that a kill loses none of it."""


class Stretch:
    """One stretch of asking, of one model or several at once; waits count.

    Dollars by the hour are those of answers that were charged with them, as they are recorded, and the rest stands here.
    """

    def __init__(self, ledger: Ledger, budget: Budget) -> None:
        self._ledger, self._budget = ledger, budget
        self._since = time.time()
        self._started, self._by_time = budget.clock(), budget.by_time
        self._charged = 0.0
        self._noted_until = self._started

    @contextlib.contextmanager
    def lasting(self) -> Iterator[None]:
        """Count the time of the block."""
        self._note(AHEAD_S)
        try:
            yield
        finally:
            with contextlib.suppress(StoreError):  # what was answered matters more
                self._note(0.0)

    async def keep_ahead(self) -> None:
        """Keep what is on disk ahead of the clock, until cancelled. Raises StoreError."""
        while True:
            await asyncio.sleep(AHEAD_S / 2)
            self.note()

    def note(self, charged: float = 0.0) -> None:
        """Write down how long it takes, where that is due; `charged` dollars by the hour stand with answers from now on.

        Belongs into the transaction that records those answers. Raises StoreError.
        """
        self._charged += charged
        if charged or self._budget.dollars_a_second or self._noted_until - self._budget.clock() < AHEAD_S / 2:
            self._note(AHEAD_S)

    def _note(self, ahead_s: float) -> None:
        if self._ledger.read_only:
            return
        self._budget.count_time()
        now = self._budget.clock()
        seconds, dollars = self._budget.ahead(ahead_s)
        rest = self._budget.by_time - self._by_time - self._charged
        self._ledger.note_asking(self._since, now - self._started + seconds, rest + dollars)
        self._noted_until = now + ahead_s

"""Calls as an earlier process leaves them in its ledger, and an endpoint that counts how many calls a minute sees."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from potstill.models.testing import OpenAIStub
from potstill.records import Completion, Message, Request, Sampling
from potstill.store.ledger import Ledger

_ALMOST_A_MINUTE_S = 59.3


def leave_calls(path: Path, run: str, model: str, count: int) -> list[float]:
    """Answered calls of almost a minute ago; returns when each was made."""
    keys = [f"earlier-{number}" for number in range(count)]
    at = time.time() - _ALMOST_A_MINUTE_S
    with Ledger(path, run=run) as ledger:
        ledger.intend(keys, [Request((Message("user", key),), Sampling(1)) for key in keys], model)
        ledger.record(keys, [Completion("Fine.", "stop") for _ in keys], [0.0 for _ in keys])
        ledger._db.execute("UPDATE attempt SET started = ?", (at,))
    return [at] * count


class Punctual(OpenAIStub):
    """Notes when it is asked, and answers with `text`."""

    def __init__(self, text: str) -> None:
        self.times: list[float] = []
        self._text = text
        super().__init__(self._note)

    def _note(self, _payload: dict[str, Any]) -> str:
        self.times.append(time.time())
        return self._text


def most_in_a_minute(times: Sequence[float]) -> int:
    """Calls in the minute that saw the most."""
    ordered = sorted(times)
    return max(bisect_left(ordered, at + 60.0) - place for place, at in enumerate(ordered))

"""Calls that others have made under the same limits, an earlier process or another part of the run: for a minute they count for rates."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from weakref import WeakKeyDictionary

from potstill.models.base import Model, Remote
from potstill.models.throttle import WINDOW_S, Past, Throttle
from potstill.store.ledger import Ledger
from potstill.store.ledger_sums import Recent

_told: WeakKeyDictionary[Throttle, set[Path]] = WeakKeyDictionary()


def recall_ledger(models: Iterable[Model], ledger: Ledger) -> None:
    """Have the models' throttles count a ledger's calls of the last minute, of the run that it is open for.

    A throttle is told of a ledger once: what it admits after that, it has counted itself.
    """
    calls = last_minute(ledger)
    for model in models:
        if isinstance(model, Remote) and ledger.path.absolute() not in _told.setdefault(model.throttle, set()):
            _told[model.throttle].add(ledger.path.absolute())
            recall_calls([model], calls, time.time())


def last_minute(ledger: Ledger) -> list[Recent]:
    """The calls that count for rates still."""
    return ledger.recent(time.time() - WINDOW_S)


def recall_calls(models: Iterable[Model], calls: Iterable[Recent], now: float, workers: int = 1) -> None:
    """Have the models' throttles count calls, or a worker's share of them.

    `now` is in seconds since 1970, as the calls' times: nodes whose clocks differ keep the rates as well as the clocks agree.
    """
    past = list(calls)
    for model in models:
        if isinstance(model, Remote):
            mine = [one for one in past if one.model == model.identity]
            model.throttle.recall(Past(max(now - one.at, 0.0), one.calls / workers, one.tokens / workers) for one in mine)

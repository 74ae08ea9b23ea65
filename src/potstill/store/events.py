"""What happened in a run, as typed events: one JSON object a line, and the same objects to whoever listens.

Stages know nothing of terminals: they emit events, and the CLI, a service or a page draws them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from potstill.store.atomic import store_error

StageName = Literal["data", "adapt", "generate", "train", "evaluate", "report"]


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events; `at` is seconds since 1970."""

    at: float = field(default_factory=time.time, kw_only=True)


@dataclass(frozen=True, slots=True)
class RunStarted(Event):
    """A run begins, or goes on."""

    name: str
    folder: str


@dataclass(frozen=True, slots=True)
class StageStarted(Event):
    """A stage begins, or goes on where it was cut (`resumed`): number `place` of `places` in this run.

    `expected_s` is how long it takes from its beginning, roughly, and `after_s` how long all later ones do; None where unknown.
    """

    stage: StageName
    resumed: bool = False
    place: int = 0
    places: int = 0
    expected_s: float | None = None
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class StageSkipped(Event):
    """A stage's inputs are those of its last run, and its outputs stand."""

    stage: StageName


@dataclass(frozen=True, slots=True)
class StageFinished(Event):
    """A stage is done; `summary` says what came out, in a line."""

    stage: StageName
    seconds: float
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Progressed(Event):
    """Long work moved: `done` of `total` units (None: unknown); `rate` units/s; `eta_s` seconds left; dollars spent so far."""

    task: str
    done: float
    total: float | None
    unit: str
    rate: float
    eta_s: float | None
    dollars: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Measured(Event):
    """Figures of a moment, as training's loss at a step."""

    task: str
    step: int
    values: dict[str, float]


@dataclass(frozen=True, slots=True)
class Noticed(Event):
    """Something the user should know."""

    level: Literal["info", "warning"]
    text: str


@dataclass(frozen=True, slots=True)
class RunFinished(Event):
    """All stages stand."""

    seconds: float


@dataclass(frozen=True, slots=True)
class RunFailed(Event):
    """The run stopped; `interrupted` where the user or the system asked for it."""

    message: str
    interrupted: bool = False


Listener = Callable[[Event], None]

_PROGRESS_SECONDS = 0.5


class Progress:
    """Counts one piece of long work, and emits it at most twice a second."""

    def __init__(self, log: EventLog, task: str, total: float | None, unit: str, done: float = 0) -> None:
        self._log, self._task, self._total, self._unit = log, task, total, unit
        self._done = self._start_done = done
        self._started = time.monotonic()
        self._emitted = 0.0
        self._dollars: float | None = None
        self._note = ""
        self._emit(0.0)

    def advance(self, by: float = 1, *, dollars: float | None = None, note: str | None = None) -> None:
        """`by` more units are done; `dollars` is the total spent so far."""
        self._done += by
        self._dollars = self._dollars if dollars is None else dollars
        self._note = self._note if note is None else note
        now = time.monotonic()
        if now - self._emitted >= _PROGRESS_SECONDS or self._done == self._total:
            self._emit(now)

    def skip(self, by: float) -> None:
        """`by` units stand already, from before: they are done, but tell nothing of the rate."""
        self._start_done += by
        self.advance(by)

    def finish(self) -> None:
        """It is over, also where that came before all units that were expected."""
        if self._total is not None and self._done < self._total:
            self.skip(self._total - self._done)

    def _emit(self, now: float) -> None:
        self._emitted = now
        elapsed = max(time.monotonic() - self._started, 1e-9)
        fresh = self._done - self._start_done
        rate = fresh / elapsed
        left = (self._total - self._done) / rate if self._total is not None and fresh > 0 else None
        self._log.emit(Progressed(self._task, self._done, self._total, self._unit, rate, left, self._dollars, self._note))


class EventLog:
    """Appends events to a file (none: to listeners alone)."""

    def __init__(self, path: Path | None = None, listeners: tuple[Listener, ...] = ()) -> None:
        self._path, self._listeners = path, listeners
        self._whole = False  # whether the last line is known to be whole

    def emit(self, event: Event) -> None:
        """Write one event, then tell the listeners. Raises StoreError where the file cannot be written."""
        if self._path is not None:
            line = json.dumps({"event": type(event).__name__, **dataclasses.asdict(event)}, ensure_ascii=False)
            try:
                start = "\n" if not self._whole and _ends_within_a_line(self._path) else ""
                self._whole = False
                with open(self._path, "a", encoding="utf-8") as file:
                    file.write(f"{start}{line}\n")
                self._whole = True
            except OSError as error:
                raise store_error(self._path, error) from None
        for listener in self._listeners:
            listener(event)

    def info(self, text: str) -> None:
        """Tell the user something."""
        self.emit(Noticed("info", text))

    def warn(self, text: str) -> None:
        """Warn the user of something."""
        self.emit(Noticed("warning", text))

    @contextlib.contextmanager
    def progress(self, task: str, total: float | None, unit: str, done: float = 0) -> Iterator[Progress]:
        """Count `total` units of long work, `done` of which stand already from before."""
        yield Progress(self, task, total, unit, done)


_KINDS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (RunStarted, StageStarted, StageSkipped, StageFinished, Progressed, Measured, Noticed, RunFinished, RunFailed)
}


def _ends_within_a_line(path: Path) -> bool:
    """Whether a kill while writing left half a line, which the next one must not be glued to."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def read_events(path: Path) -> Iterator[Event]:
    """The events of a file; a torn last line (a kill while writing), damaged lines and unknown kinds are passed over."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        yield from parse_events(file)


def parse_events(lines: Iterable[bytes]) -> Iterator[Event]:
    """The events among lines of an event file, ended by b"\\n" alone: a text may hold what else Unicode calls a line's end."""
    for line in lines:
        event = _parse(line)
        if event is not None:
            yield event


def _parse(line: bytes) -> Event | None:
    try:
        row = json.loads(line.decode("utf-8"))
        return _reader(row["event"]).validate_python(row)
    except (ValueError, LookupError, TypeError, RecursionError):  # pydantic's error is a ValueError
        return None


@functools.cache
def _reader(name: str) -> TypeAdapter[Event]:
    return TypeAdapter(_KINDS[name])

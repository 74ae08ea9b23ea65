"""What workers tell, brought to the driver's log: their notices by name, their progress as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from potstill.generation.workers.parts import Part
from potstill.store.events import EventLog, Noticed, Progressed, parse_events


class Feed:
    """Reads the workers' event files as they grow; `dollars` is what was spent before them (None: unknown)."""

    def __init__(self, parts: Sequence[Part], log: EventLog, dollars: float | None) -> None:
        self._parts, self._log, self._dollars = parts, log, dollars
        self._read = dict.fromkeys((part.number for part in parts), 0)
        self._latest: dict[str, dict[int, Progressed]] = {}

    def forward(self) -> None:
        """Tell what came since the last time. Raises as `EventLog.emit`."""
        moved: dict[str, None] = {}
        for part in self._parts:
            for event in parse_events(self._new_lines(part.number, part.events)):
                if isinstance(event, Progressed):
                    self._latest.setdefault(event.task, {})[part.number] = event
                    moved[event.task] = None
                elif isinstance(event, Noticed):
                    self._log.emit(Noticed(event.level, f"worker {part.number + 1}: {event.text}", at=event.at))
        for task in moved:
            self._log.emit(self._together(task))

    def _new_lines(self, number: int, path: Path) -> list[bytes]:
        if not path.exists():
            return []
        with open(path, "rb") as file:
            file.seek(self._read[number])
            whole = file.read().rpartition(b"\n")[0]
        self._read[number] += len(whole) + 1 if whole else 0
        return whole.split(b"\n")

    def _together(self, task: str) -> Progressed:
        each = list(self._latest[task].values())
        done = sum(event.done for event in each)
        total = None if any(event.total is None for event in each) else sum(event.total or 0 for event in each)
        rate = sum(event.rate for event in each if event.total is None or event.done < event.total)
        eta_s = (total - done) / rate if total is not None and rate else None
        return Progressed(task, done, total, each[0].unit, rate, eta_s, self._spent(), f"{len(self._parts)} workers")

    def _spent(self) -> float | None:
        """Dollars of the run: each worker's last word, and what was spent before."""
        last = {number: event for events in self._latest.values() for number, event in events.items() if event.dollars is not None}
        return None if self._dollars is None else self._dollars + sum(event.dollars or 0.0 for event in last.values())

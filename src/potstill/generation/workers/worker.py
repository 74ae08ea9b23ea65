"""A worker: asks about the rows of a part, under its shares, into its own ledger. Killed and started again, it goes on there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill import __version__
from potstill.errors import BudgetError, EngineError, PotstillError
from potstill.generation.asking import ask_rows_async
from potstill.generation.interview import Interview
from potstill.generation.panel import open_panel
from potstill.generation.workers.parts import PATIENCE_S, Part
from potstill.models.budget import Budget, Caps
from potstill.models.recall import recall_calls, recall_ledger
from potstill.spec import RunSpec
from potstill.store.events import EventLog
from potstill.store.ledger import Ledger
from potstill.store.ledger_sums import Recent
from potstill.tasks import build_task
from potstill.tasks.prompting.examples import Worked

STOP = "stop"
"""A file of this name in the workers' folder has them all stop."""
_LOOK_S = 0.5


@dataclass(frozen=True)
class Job:
    """What all workers of a run need to know. `caps` are each part's own, by number; `since` is when they were dealt.

    `recent` are the driver's calls of the minute before.
    """

    version: str
    folder: Path
    """Where the run was started: the user's own gates may lie there."""
    spec: str
    labels: tuple[str, ...]
    examples: tuple[Worked, ...]
    parts: dict[int, Part]
    caps: dict[int, Caps]
    since: float
    recent: tuple[Recent, ...]
    environment: dict[str, str]
    """Variables that a node may lack: endpoints' keys, by name. A node's own go first. Not Ray's `runtime_env`, which Ray shows around."""


class Worker:
    """A stateful actor class for `map_batches`: a batch names a part, and the result says how it ended."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Ask one part. What stops all workers, or this one alone (a budget), comes back as data: Ray would retry or bury it."""
        part = self._job.parts[int(batch["part"][0])]
        try:
            ask_part(self._job, part)
        except PotstillError as error:
            if not isinstance(error, BudgetError):
                _stop(part)
            return {"part": [part.number], "error": [type(error).__name__], "message": [str(error)]}
        except BaseException:
            _stop(part)
            raise
        return {"part": [part.number], "error": [""], "message": [""]}


def ask_part(job: Job, part: Part) -> None:
    """Ask what a part's ledger lacks. Raises as `ask_async`, and EngineError where this node cannot do it."""
    _check_node(job, part)
    os.environ.update({name: value for name, value in job.environment.items() if not os.environ.get(name)})
    with contextlib.suppress(OSError):
        os.chdir(job.folder)
    spec = RunSpec.model_validate_json(job.spec)
    task = build_task(spec.task, job.labels)
    log = EventLog(part.events)
    with open_panel(spec, task) as panel, Ledger(part.ledger, run=spec.name, wait_s=PATIENCE_S) as ledger:
        if ledger.orphaned:
            log.warn(f"was lost, and goes on at {socket.gethostname()}; of its calls {ledger.orphaned:,} were cut off")
        interview = Interview(
            task, panel.teachers, ledger, generation=spec.generation, gates=spec.gates, judge=panel.judge, examples=job.examples
        )
        budget = Budget(job.caps[part.number], ledger.spent(), time.time() - job.since)
        recall_calls(panel.models, job.recent, time.time(), len(job.parts))
        recall_ledger(panel.models, ledger)
        asyncio.run(_until_stopped(_ask(interview, part, log, budget), part.folder / STOP))


def _check_node(job: Job, part: Part) -> None:
    node = socket.gethostname()
    if job.version != __version__:
        raise EngineError(f"node {node} has Potstill {__version__}, but the run {job.version}: install one version everywhere")
    if not part.rows.exists():
        raise EngineError(
            f"node {node} does not see {part.folder}: put the run folder (`--runs`) on a disk that every node mounts under the same path"
        )


async def _ask(interview: Interview, part: Part, log: EventLog, budget: Budget) -> None:
    try:
        await ask_rows_async(interview, part.read, part.count, log, budget=budget)
    finally:
        for seat in interview.seats:
            await seat.model.close()


async def _until_stopped(asking: Coroutine[Any, Any, None], stop: Path) -> None:
    """Until it is done, or everybody is to stop; then what is in flight is let go, and every answer kept."""
    task = asyncio.ensure_future(asking)
    while not task.done():
        await asyncio.wait({task}, timeout=_LOOK_S)
        if stop.exists():
            task.cancel()
            break
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _stop(part: Part) -> None:
    with contextlib.suppress(OSError):
        (part.folder / STOP).touch()

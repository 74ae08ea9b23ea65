"""`engine: ray`: the workers as actors of Ray Data, on a cluster that runs or on one of this machine's own.

Ray starts them where there is room, starts them anew where one is lost, and hands its part to another. All that a worker knows is
in its part's files, so whoever takes the part goes on from there.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import logging
import math
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from potstill import __version__, errors
from potstill.data.labels import load_labels
from potstill.errors import EngineError, PotstillError
from potstill.generation.asking import Rows
from potstill.generation.interview import Interview
from potstill.generation.workers.feed import Feed
from potstill.generation.workers.hours import by_the_hour_alone
from potstill.generation.workers.parts import Part, deal_rows, take_in
from potstill.generation.workers.shares import asked, most_workers, share_budget, share_rates
from potstill.generation.workers.worker import STOP, Job, Worker
from potstill.models.base import Remote
from potstill.models.budget import Budget
from potstill.models.load import endpoint_of
from potstill.models.recall import last_minute, recall_calls
from potstill.spec.sections import EngineSpec
from potstill.store.ledger import Ledger
from potstill.store.run import Run

_CATALOGUE = "POTSTILL_CATALOGUE"
_LOOK_S = 0.5
_STOPPING_S = 10.0
"""How long workers get to let go of their calls, when all is to stop."""
_CONNECTING_S = 5.0
_LOOKED_AT = 256
"""So many rows tell how long a call is."""
_OBJECT_STORE = 100 * 2**20  # next to nothing goes through it: rows and answers are in files
# Read when Ray is imported. The second has a cluster of one machine listen on loopback alone, on any system.
_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
_ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def workers_folder(run: Run) -> Path:
    """Where the parts of a run are while workers are at them."""
    return run.path("generation", "workers").absolute()


def take_in_leftovers(run: Run) -> None:
    """Merge what workers of an earlier process were answered, if one was killed. Raises StoreError where they are still at work."""
    folder = workers_folder(run)
    if not folder.exists():
        return
    # In a session of its own: what failed in that process is asked again in this one.
    with Ledger(run.ledger_path, run=run.spec.name) as ledger:
        if ledger.read_only is None:
            taken = take_in(folder, ledger, hours_shared=by_the_hour_alone(asked(run.spec)))
            run.events.info(f"{taken.answers:,} answers of workers were taken in; {taken.cut:,} of their calls were cut off")


def require_ray(engine: EngineSpec) -> ModuleType:
    """Ray and its data sets, imported. Raises EngineError where they are not installed."""
    for name, value in (_SETTINGS if engine.address else _SETTINGS | _ON_LOOPBACK).items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise EngineError(f"`engine: ray` needs the package {error.name}: pip install 'potstill[ray]'") from None
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    found: ModuleType = ray
    return found


def ask_on_ray(run: Run, interview: Interview, rows: Rows, count: int, budget: Budget) -> None:
    """Have workers ask about `count` rows; what they are answered is in the ledger afterwards, and what they spent in `budget`.

    Rows may be left, where a share of the budget was used up before the whole. Raises what asking raises, EngineError where the
    cluster cannot be had, or its nodes cannot do the work. Killed or stopped, it leaves its files to `take_in_leftovers`.
    """
    if interview.ledger.read_only is not None or _waits_in_batches(interview):
        return  # asking from here says what to do
    ray = require_ray(run.spec.engine)
    folder = workers_folder(run)
    with run.events.progress("dealing rows", count, "rows") as progress:
        parts = deal_rows(folder, interview, rows, most_workers(run.spec, _tokens_a_call(interview, rows)), progress)
    if not parts:
        shutil.rmtree(folder)
        return
    with _cluster(ray, run.spec.engine, len(parts)):
        run.events.info(f"{sum(part.count for part in parts):,} of {count:,} rows go to {len(parts)} workers on Ray")
        _warn_of_little_room(ray, run, len(parts))
        job = _job(run, interview, parts, budget)
        ends = _run_workers(ray, run, job, Feed(parts, run.events, interview.ledger.dollars()))
    take_in(folder, interview.ledger, hours_shared=by_the_hour_alone(asked(run.spec)))
    budget.spent = interview.ledger.spent()
    models = {seat.model.identity: seat.model for seat in interview.seats}
    recall_calls(models.values(), interview.ledger.recent(job.since), time.time())
    _raise_first(ends)


def _waits_in_batches(interview: Interview) -> bool:
    """Whether a provider has batches whose answers are paid for, and would be asked for again."""
    return any(interview.ledger.open_batches(seat.model.identity) for seat in interview.seats)


def _tokens_a_call(interview: Interview, rows: Rows) -> int:
    """The most that one of the first rows' first calls is likely to use."""
    steps = (interview.step(row, 1) for row in itertools.islice(rows(), _LOOKED_AT))
    asks = [ask for step in steps if step is not None for ask in step.asks]
    return max((ask.seat.model.likely(ask.request) for ask in asks if isinstance(ask.seat.model, Remote)), default=1)


def _job(run: Run, interview: Interview, parts: Sequence[Part], budget: Budget) -> Job:
    names = {endpoint_of(teacher).api_key_env for teacher in asked(run.spec)} | {_CATALOGUE}
    return Job(
        version=__version__,
        folder=Path.cwd(),
        spec=share_rates(run.spec, len(parts)).model_dump_json(),
        labels=load_labels(run),
        examples=interview.examples,
        parts={part.number: part for part in parts},
        caps=dict(zip((part.number for part in parts), share_budget(budget, len(parts), asked(run.spec)), strict=True)),
        since=time.time(),
        recent=tuple(last_minute(interview.ledger)),
        environment={name: os.environ[name] for name in names if name is not None and name in os.environ},
    )


@contextlib.contextmanager
def _cluster(ray: ModuleType, engine: EngineSpec, workers: int) -> Iterator[None]:
    """Connected while the block runs; a session that somebody else has opened in this process is used, and left open."""
    with _sigterm_kept():
        ours = not ray.is_initialized()
        if ours:
            _connect(ray, engine, workers)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _interrupt)  # Ray's own ends the process at once
        try:
            yield
        finally:
            if ours:
                ray.shutdown()


@contextlib.contextmanager
def _sigterm_kept() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _connect(ray: ModuleType, engine: EngineSpec, workers: int) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if engine.address is None:
            cpus = max(os.cpu_count() or 1, math.ceil(workers * engine.cpus))
            ray.init(address="local", num_cpus=cpus, include_dashboard=False, object_store_memory=_OBJECT_STORE, **quiet)
        else:
            _knock(engine.address)
            ray.init(address=engine.address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EngineError(f"engine.address: {engine.address or 'a cluster of this machine'}: {_last_line(error)}") from None


def _knock(address: str) -> None:
    """Ray itself would try for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECTING_S).close()
    except (OSError, OverflowError):
        raise ConnectionError("nothing answers there; is that the address that `ray start --head` printed?") from None


def _warn_of_little_room(ray: ModuleType, run: Run, workers: int) -> None:
    engine, there = run.spec.engine, ray.cluster_resources()
    rooms = [there.get(name, 0.0) / wanted for name, wanted in (("CPU", engine.cpus), ("GPU", engine.gpus)) if wanted]
    room = math.floor(min(rooms, default=workers))
    if room < workers:
        run.events.warn(f"the cluster has room for {room} of {workers} workers; the others wait for it (`engine.cpus`, `engine.gpus`)")


def _run_workers(ray: ModuleType, run: Run, job: Job, feed: Feed) -> list[dict[str, Any]]:
    """How each part ended. Ray Data blocks, so it has a thread, and this one tells what the workers tell."""
    engine, folder = run.spec.engine, workers_folder(run)
    future: concurrent.futures.Future[list[dict[str, Any]]] = concurrent.futures.Future()

    def work() -> None:
        try:
            future.set_result(_map_parts(ray, job, engine))
        except BaseException as error:  # noqa: BLE001 (it is raised where the result is read)
            future.set_exception(error)

    threading.Thread(target=work, name="potstill-ray", daemon=True).start()
    try:
        while not future.done():
            concurrent.futures.wait([future], timeout=_LOOK_S)
            feed.forward()
    except BaseException:
        (folder / STOP).touch()
        concurrent.futures.wait([future], timeout=_STOPPING_S)
        raise
    try:
        return future.result()
    except ray.exceptions.RayTaskError:  # broken code, not a broken cluster; it brings the worker's traceback
        raise
    except ray.exceptions.RayError as error:
        raise EngineError(
            f"Ray: {_last_line(error)}. Is this version of Potstill installed on every node? What was answered is kept: run the same "
            "command again"
        ) from None


def _map_parts(ray: ModuleType, job: Job, engine: EngineSpec) -> list[dict[str, Any]]:
    size = len(job.parts)
    with _silent(ray.data.DataContext.get_current()):
        parts = ray.data.from_items([{"part": number} for number in job.parts], override_num_blocks=size)
        ends: list[dict[str, Any]] = parts.map_batches(
            Worker,
            fn_constructor_args=(job,),
            batch_size=1,
            # One part at a time: a second would wait behind a busy worker while others are idle.
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
            num_cpus=engine.cpus,
            num_gpus=engine.gpus or None,
        ).take_all()
    return ends


@contextlib.contextmanager
def _silent(context: Any) -> Iterator[None]:
    """Ray Data's settings without its own progress, which counts parts; they are this process's, so they are put back."""
    before = context.enable_progress_bars, context.print_on_execution_start
    context.enable_progress_bars = context.print_on_execution_start = False
    try:
        yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start = before


def _raise_first(ends: Sequence[dict[str, Any]]) -> None:
    for end in ends:
        if end["error"] and end["error"] != errors.BudgetError.__name__:
            kind: type[PotstillError] = getattr(errors, end["error"])
            raise kind(f"worker {end['part'] + 1}: {end['message']}")


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

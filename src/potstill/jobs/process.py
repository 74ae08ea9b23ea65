"""A job's process: started so that it outlives its client, found again by its number and the moment it began."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from potstill.errors import JobError
from potstill.store.atomic import read_object, store_error, write_json

PROCESS_FILE = "process.json"
LOG_FILE = "worker.log"
_POLL_SECONDS = 0.05


def launch(folder: Path, environment: Mapping[str, str]) -> None:
    """Start the worker of the job in `folder`, detached; returns once it runs. Raises JobError where it does not start."""
    command = [sys.executable, "-m", "potstill.jobs.worker", str(folder)]
    try:
        with open(folder / LOG_FILE, "ab") as log:
            started = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(environment), start_new_session=True, check=False
            )
    except OSError as error:
        raise store_error(folder / LOG_FILE, error) from None
    if started.returncode != 0:
        raise JobError(f"{folder.name}: the job's process could not be started: {last_words(folder)}")


def record_process(folder: Path) -> None:
    """Write down that this process works in `folder`."""
    write_json(folder / PROCESS_FILE, {"pid": os.getpid(), "began": moment_of(os.getpid())})


def is_alive(folder: Path) -> bool:
    """Whether the process that was last recorded in `folder` still runs."""
    return _running_pid(folder) is not None


def stop(folder: Path, patience_s: float) -> None:
    """Ask the recorded process to end; after `patience_s` seconds end it and its children. Nothing happens where it is gone."""
    pid = _running_pid(folder)
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + patience_s
    while is_alive(folder) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    if is_alive(folder):
        # A worker leads a process group of its own, so this reaches what it started too.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    while is_alive(folder):
        time.sleep(_POLL_SECONDS)


def moment_of(pid: int) -> str | None:
    """When a process began, in the system's own terms; None where there is none (or it has ended and waits to be collected).

    Numbers of processes are used again; a number together with this moment is not.
    """
    if sys.platform == "linux":
        try:
            # Field 3 is the state and field 22 the start in clock ticks since boot: proc(5). The name, field 2, may hold spaces.
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    shown = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout.split()
    return " ".join(shown[1:]) if shown and not shown[0].startswith("Z") else None


def last_words(folder: Path) -> str:
    """The last line of the worker's log."""
    try:
        lines = (folder / LOG_FILE).read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except FileNotFoundError:
        lines = []
    return lines[-1] if lines else "it left no message"


def _running_pid(folder: Path) -> int | None:
    if not (folder / PROCESS_FILE).exists():
        return None
    recorded = read_object(folder / PROCESS_FILE, "pid", "began")
    pid: int = recorded["pid"]
    return pid if recorded["began"] is not None and moment_of(pid) == recorded["began"] else None

"""Ask math-verify from any thread, with a time limit that holds."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

from potstill.errors import PotstillError

_WORKER = Path(__file__).with_name("math_worker.py")
_START_S = 120.0


class MathJudge:
    """A worker process that is started when first asked, and again after it had to be killed. One question at a time."""

    def __init__(self, timeout_s: float = 5.0) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._worker: subprocess.Popen[str] | None = None
        self._owner = 0

    def same(self, gold: str, answer: str) -> bool | None:
        """Whether both are one value; None where that is not settled within the time limit.

        Raises PotstillError where the worker does not start.
        """
        with self._lock:
            worker, reply = self._running(), ""
            try:
                reply = _exchange(worker, json.dumps([gold, answer]), self._timeout_s)
            finally:
                if not reply:  # killed, or interrupted here: its late reply must not answer the next question
                    _end(worker)
                    self._worker = None
            return bool(json.loads(reply)) if reply else None

    def close(self) -> None:
        """End the worker."""
        with self._lock:
            if self._worker is not None and self._owner == os.getpid():
                _end(self._worker)
            self._worker = None

    def _running(self) -> subprocess.Popen[str]:
        # After a fork both processes would talk through the same pipes.
        if self._worker is None or self._owner != os.getpid() or self._worker.poll() is not None:
            self._worker, self._owner = _start(), os.getpid()
        return self._worker


def _start() -> subprocess.Popen[str]:
    # -P: the folder of the script is no place to import from.
    worker = subprocess.Popen(
        [sys.executable, "-P", str(_WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        start_new_session=True,  # Ctrl-C is for the run, which ends its worker itself
    )
    if _exchange(worker, "", _START_S) != "ready\n":
        _end(worker)
        raise PotstillError("math-verify does not start; see what `python -c 'import math_verify'` says, and install Potstill again")
    return worker


def _exchange(worker: subprocess.Popen[str], question: str, timeout_s: float) -> str:
    """The worker's next line; empty where it died or had to be killed."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    killer = threading.Timer(timeout_s, worker.kill)
    killer.daemon = True
    killer.start()
    try:
        if question:
            worker.stdin.write(question + "\n")
            worker.stdin.flush()
        return worker.stdout.readline()
    except BrokenPipeError:
        return ""
    finally:
        killer.cancel()


def _end(worker: subprocess.Popen[str]) -> None:
    worker.kill()
    worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # what was not sent yet need not be


@cache
def shared_judge() -> MathJudge:
    """The process's own judge, ended with it."""
    judge = MathJudge()
    atexit.register(judge.close)
    return judge

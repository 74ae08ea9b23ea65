"""Killed at random moments, generation goes on: nothing that was answered is asked again, and the files come out the same."""

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from slow_teacher import KINDS, SlowTeacher, run_generation

FILES = ("accepted.jsonl", "rejected.jsonl", "validation.jsonl")
PROGRAM = Path(__file__).with_name("slow_teacher.py")


def start(folder: Path, log: Path, kind: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, PROGRAM, folder, log, kind], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def stop_after(child: subprocess.Popen, log: Path, moments: random.Random, number: signal.Signals) -> int:
    """Send the signal soon after some requests have left (unless the child ends by itself before), and wait."""
    count, pause = moments.randint(1, 45), moments.uniform(0.0, 0.03)
    while child.poll() is None and len(lines(log)) < count:
        time.sleep(0.002)
    time.sleep(pause)
    child.send_signal(number)
    return child.wait()


def answered(folder: Path, copy: Path) -> set[str]:
    """Keys with an answer, read from a copy: to look at a ledger is to repair it, which is what the next run must do."""
    shutil.copytree(folder / "generation", copy, ignore_dangling_symlinks=True)
    database = sqlite3.connect(copy / "ledger.sqlite")
    try:
        return {key for (key,) in database.execute("SELECT key FROM attempt WHERE state = 'answered'")}
    finally:
        database.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / "generation" / name).read_bytes() for name in FILES}


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_killed_run_asks_nothing_twice_and_ends_as_an_uninterrupted_one(tmp_path, kind, number):
    run_generation(tmp_path / "whole", SlowTeacher(kind))
    width = KINDS[kind][0] * KINDS[kind][1]
    moments = random.Random(f"{kind} {number}")
    folder, asked, known = tmp_path / "cut", set(), set()
    kills = repeated = 0
    while True:
        log = tmp_path / f"log{kills}"
        ended = stop_after(start(folder, log, kind), log, moments, number)
        now = lines(log)
        assert len(set(now)) == len(now)
        assert not known & set(now)
        repeated += len(asked & set(now))
        asked |= set(now)
        known = answered(folder, tmp_path / f"copy{kills}")
        assert len(asked - known) <= width
        if ended == 0:
            break
        kills += 1
    assert kills >= 2
    assert repeated <= kills * width
    assert contents(folder) == contents(tmp_path / "whole")

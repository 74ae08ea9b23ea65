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
KILLS = 3
PROGRAM = Path(__file__).with_name("slow_teacher.py")


def start(folder: Path, log: Path, kind: str, hang_after: int) -> subprocess.Popen:
    program = [sys.executable, PROGRAM, folder, log, kind, str(hang_after)]
    return subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


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
    folder, asked, known, repeated = tmp_path / "cut", set(), set(), 0
    for kill in range(KILLS + 1):
        log = tmp_path / f"log{kill}"
        count = moments.randint(1, 25)
        child = start(folder, log, kind, count if kill < KILLS else 10**9)
        if kill < KILLS:
            while len(lines(log)) < count:
                assert child.poll() is None
                time.sleep(0.002)
            time.sleep(moments.uniform(0.0, 0.03))
            child.send_signal(number)
        ended = child.wait()
        assert (ended == 0) == (kill == KILLS)
        now = lines(log)
        assert len(set(now)) == len(now)
        assert not known & set(now)
        repeated += len(asked & set(now))
        asked |= set(now)
        known = answered(folder, tmp_path / f"copy{kill}")
        assert len(asked - known) <= width
    assert 0 < repeated <= KILLS * width
    assert contents(folder) == contents(tmp_path / "whole")

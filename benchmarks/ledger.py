"""How fast the ledger takes records: intent and answer of each on disk (SQLite, write-ahead log, synchronous FULL).

    python benchmarks/ledger.py [--records 20000] [--folder DIR]

A record is a question of about 1 KB and an answer of about 1 KB. `one by one` commits the intent and the answer of each record by itself,
`groups of 64` commits 64 at a time, as `models.ask` does with 64 calls in flight. `asked` is the whole path through `models.ask` with a
teacher that answers at once, 64 calls wide: plan, key, intent, answer. CPU is of this process, waits for the disk excluded.
"""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from potstill.models.ask import ask
from potstill.models.base import Capabilities
from potstill.records import Completion, Message, Request, Sampling, Usage
from potstill.store.ledger import Ledger

ANSWER = Completion("An answer of some length. " * 40, "stop", Usage(250, 250), 0.5, "teacher")


class InstantTeacher:
    """Answers at once, one request a call."""

    name = identity = "instant"
    capabilities = Capabilities()
    batch_size = 1
    concurrency = 64

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        return [ANSWER for _ in requests]

    def dollars(self, completion: Completion) -> float | None:  # noqa: ARG002 (the protocol's signature)
        return 0.001

    async def close(self) -> None:
        pass


def request(number: int) -> Request:
    return Request((Message("user", f"{number}: " + "a question of some length " * 40),), Sampling(max_new_tokens=256))


def record(ledger: Ledger, count: int, group: int) -> None:
    for start in range(0, count, group):
        numbers = range(start, min(start + group, count))
        keys = [f"{number:064}" for number in numbers]
        ledger.intend(keys, [request(number) for number in numbers], "instant")
        ledger.record(keys, [ANSWER] * len(keys), [0.001] * len(keys))


def measure(title: str, count: int, folder: Path, work: Callable[[Ledger], object]) -> None:
    path = folder / f"{title.replace(' ', '-')}.sqlite"
    with Ledger(path) as ledger:
        wall, cpu = time.perf_counter(), time.process_time()
        work(ledger)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    size = path.stat().st_size / count
    speed = f"{count / wall:>8,.0f} records/s  {1000 * cpu / count:6.3f} ms CPU a record"
    print(f"{title:<14}{count:>8,} records  {speed}  {size:,.0f} bytes a record")
    path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--folder", type=Path, default=None, help="where the ledgers are made; by default the system's temporary folder")
    settings = parser.parse_args()
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {platform.machine()}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(dir=settings.folder) as name:
        folder, few = Path(name), max(1, settings.records // 10)
        measure("one by one", few, folder, lambda ledger: record(ledger, few, 1))
        measure("groups of 64", settings.records, folder, lambda ledger: record(ledger, settings.records, 64))
        measure("asked", settings.records, folder, lambda ledger: ask(InstantTeacher(), map(request, range(settings.records)), ledger))


if __name__ == "__main__":
    main()

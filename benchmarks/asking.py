"""What asking costs: CPU a record against a server that answers at once, and wall time against one that takes its time.

    python benchmarks/asking.py instant [--rows 25000] [--repeats 3]
    python benchmarks/asking.py slow [--rows 6250] [--delay 0.2] [--width 64] [--repeats 3]

Of the rows the data stage leaves four fifths to train on; those are the records (`whole stage` asks the validation rows as well).
`instant`: `asked` is rows read from disk, rendered, asked, and answers committed to the ledger; `whole stage` is all of
`potstill generate` after that as well: the gates, verdicts into the ledger, and the files that training reads. CPU is that of this
process, children and waits excluded; the server runs in another.
`slow`: the ideal is rows x delay / width, and no client can be faster.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from loopback import counts, serve
from potstill.data.dataset import Dataset
from potstill.models.ask import ask_async
from potstill.models.openai_http import OpenAIModel
from potstill.models.questions import Answers
from potstill.pipeline.run import run_pipeline
from potstill.records import Request, Sampling
from potstill.spec import RunSpec
from potstill.store.ledger import Ledger
from potstill.tasks import build_task

SAMPLING = Sampling(max_new_tokens=256)
_WORDS = [f"{first}{middle}{last}" for first in "bdfgklmnprstvz" for middle in ("an", "el", "ir", "or", "um") for last in "aeiou"]


def question(number: int) -> str:
    """About 250 characters, each its own."""
    return f"{number}: " + " ".join(random.Random(number).choices(_WORDS, k=50))


def write_rows(path: Path, count: int, *, first: int = 0) -> None:
    """Rows as a user has them; `first` is the number of the first."""
    with open(path, "w", encoding="utf-8") as file:
        for number in range(first, first + count):
            row = {"messages": [{"role": "user", "content": question(number)}]}
            file.write(json.dumps(row) + "\n")


def spec_of(folder: Path, address: str, width: int) -> RunSpec:
    """A run whose teacher is the server."""
    return RunSpec.model_validate(
        {
            "name": "asking",
            "task": {"type": "conversation"},
            "data": {"train": str(folder / "train.jsonl")},
            "teacher": {"model": "loopback", "base_url": address, "price": {"input_per_million": 1.0, "output_per_million": 2.0}},
            "student": {"model": "none"},
            "generation": {"concurrency": width, "pilot": {"rows": 0}},
        }
    )


async def _ask(model: OpenAIModel, requests: Iterable[Request], ledger: Ledger) -> Answers:
    try:
        return await ask_async(model, requests, ledger)
    finally:
        await model.close()


def asked(folder: Path, spec: RunSpec) -> None:
    """Rows from disk -> questions -> answers in the ledger."""
    task = build_task(spec.task)
    model = OpenAIModel(spec.teacher, concurrency=spec.generation.concurrency)
    rows = Dataset(folder / "run/data/train.jsonl")
    requests = (Request(messages, SAMPLING) for row in rows if (messages := task.render(row, [])) is not None)
    with Ledger(folder / "ledger.sqlite", spec.name) as ledger:
        answers = asyncio.run(_ask(model, requests, ledger))
    assert answers.failed == 0


def whole_stage(folder: Path, spec: RunSpec) -> None:
    """`potstill generate`, less its start and the data stage."""
    run_pipeline(spec, folder / "run", until="generate")


def measure(work: Callable[[Path, RunSpec], None], count: int, width: int, delay_s: float) -> tuple[int, float, float]:
    """Records, and wall and CPU seconds of one run."""
    with tempfile.TemporaryDirectory() as name, serve(delay_s) as address:
        folder = Path(name)
        write_rows(folder / "train.jsonl", count)
        spec = spec_of(folder, address, width)
        run_pipeline(spec, folder / "run", until="data")
        wall, cpu = time.perf_counter(), time.process_time()
        work(folder, spec)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return int(counts(address)["calls"]), wall, cpu


def instant(options: argparse.Namespace) -> None:
    """Print CPU a record and records a second of both paths, run in turn."""
    works: dict[str, Callable[[Path, RunSpec], None]] = {"asked": asked, "whole stage": whole_stage}
    found: dict[str, list[tuple[int, float, float]]] = {name: [] for name in works}
    for _ in range(options.repeats):
        for name, work in works.items():
            found[name].append(measure(work, options.rows, options.width, 0.0))
    print(f"{'':<14}{'records':>9}{'CPU ms a record':>18}{'min':>8}{'max':>8}{'records/s':>12}")
    for name, times in found.items():
        used = [1000 * cpu / records for records, _, cpu in times]
        speed = statistics.median(records / wall for records, wall, _ in times)
        print(f"{name:<14}{times[0][0]:>9,}{statistics.median(used):>18.3f}{min(used):>8.3f}{max(used):>8.3f}{speed:>12,.0f}")


def slow(options: argparse.Namespace) -> None:
    """Print wall time against the ideal."""
    for number in range(options.repeats):
        records, wall, cpu = measure(asked, options.rows, options.width, options.delay)
        ideal = records * options.delay / options.width
        used = f"CPU {1000 * cpu / records:.3f} ms a record"
        print(f"run {number + 1}: {records:,} records in {wall:.2f} s, ideal {ideal:.2f} s, ratio {wall / ideal:.3f}, {used}", flush=True)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["instant", "slow"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--delay", type=float, default=0.2)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    options.rows = options.rows or {"instant": 25_000, "slow": 6_250}[options.what]
    print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, {options.rows:,} rows, {options.width} wide")
    {"instant": instant, "slow": slow}[options.what](options)


if __name__ == "__main__":
    main()

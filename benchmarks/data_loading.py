"""Rows per second and peak memory of loading a large data file, and of the whole data stage.

    python benchmarks/data_loading.py 1000000

Each figure comes from a process of its own: peak memory is VmHWM, reset after a warm-up (ru_maxrss is inherited from the parent).
Rows are chat rows of about 50 words with a system prompt and a reference, every fiftieth a copy of an earlier one.
"""

import argparse
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

COPY_EVERY = 50
WORDS = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(description="Rows per second and peak memory of loading data.")
    parser.add_argument("rows", type=int, nargs="?", default=100_000, help="how many rows are generated")
    parser.add_argument("--measure", choices=sorted(MEASURED), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where the rows are written (default: a temporary folder)")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(MEASURED[arguments.measure], arguments.folder)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        write_rows(folder / "rows.jsonl", arguments.rows)
        write_rows(folder / "warm.jsonl", 200)
        size = (folder / "rows.jsonl").stat().st_size
        print(f"{arguments.rows:,} rows, {size / 1e6:,.0f} MB of JSONL")
        print(f"{'':<16}{'seconds':>10}{'rows/s':>12}{'peak MB':>10}{'before MB':>11}")
        for what in MEASURED:
            command = [sys.executable, __file__, "0", "--measure", what, "--folder", str(folder)]
            figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            rate = arguments.rows / figures["seconds"]
            print(
                f"{what:<16}{figures['seconds']:>10.1f}{rate:>12,.0f}{figures['peak_mb']:>10,.0f}{figures['before_mb']:>11,.0f}", flush=True
            )


def write_rows(path: Path, count: int) -> None:
    """`count` random rows, the same ones each time."""
    draw = random.Random(0)
    words = [f"{draw.choice('bdfglmnprst')}{draw.choice('aeiou')}{draw.choice('bdfglmnprst')}{number:x}" for number in range(WORDS)]
    weights = [1 / (rank + 10) for rank in range(WORDS)]
    sums = list(itertools.accumulate(weights))
    recent: list[str] = []
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = draw.choice(recent) if recent and number % COPY_EVERY == 0 else " ".join(draw.choices(words, cum_weights=sums, k=50))
            recent = [*recent[-99:], text]
            messages = [{"role": "system", "content": "Answer in one sentence."}, {"role": "user", "content": text}]
            file.write(json.dumps({"id": f"row-{number}", "messages": messages, "reference": text[:40]}) + "\n")


def measure(work: Callable[[Path, Path], None], folder: Path) -> dict[str, float]:
    """Seconds and peak resident memory of `work`, after a warm-up on a small file."""
    work(folder / "warm.jsonl", folder / f"warm-{work.__name__}")
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmHWM")
    started = time.perf_counter()
    work(folder / "rows.jsonl", folder / f"run-{work.__name__}")
    return {"seconds": time.perf_counter() - started, "peak_mb": resident("VmHWM"), "before_mb": before}


def resident(key: str) -> float:
    """A figure of /proc/self/status in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def load(path: Path, _: Path) -> None:
    from potstill.data.dataset import load_dataset

    load_dataset(path)


def stage(path: Path, folder: Path) -> None:
    from potstill.data import stage as data_stage
    from potstill.spec import spec_from_dict
    from potstill.store.run import open_run

    raw = {
        "name": "benchmark",
        "task": {"type": "summarization"},
        "data": {"train": str(path)},
        "teacher": {"model": "echo"},
        "student": {"model": "none"},
    }
    run = open_run(spec_from_dict(raw, folder), folder)
    data_stage.inputs(run)
    print(data_stage.work(run, resumed=False), file=sys.stderr)


MEASURED = {"load_dataset": load, "data stage": stage}


if __name__ == "__main__":
    main()

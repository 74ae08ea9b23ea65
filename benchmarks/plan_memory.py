"""A plan of a million rows: how soon the first request leaves, and what memory `potstill generate` takes meanwhile.

    python benchmarks/plan_memory.py [--rows 1000 1000000] [--seconds 60]

Each size gets a run folder of its own, its data stage done beforehand, and a server that answers at once. Then `potstill generate` runs
as a user runs it, until it is done or `--seconds` after its first request, and is killed; and once more, for how soon it goes on. First
request: seconds from the start of the process to the request's arrival at the server. Memory: VmRSS, five times a second.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from asking import write_rows
from loopback import counts, serve

_SAMPLE_S = 0.2
_PREPARE = """
import sys
from pathlib import Path
from potstill.pipeline.run import run_pipeline
from potstill.spec import load_spec
spec = Path(sys.argv[1])
run_pipeline(load_spec(spec), spec.parent / "runs/plan", until="data")
"""


@dataclass
class Watched:
    """What one process did: seconds to its first request, records that it asked, MB of memory over time."""

    first_s: float = 0.0
    records: int = 0
    done: bool = False
    seconds: float = 0.0
    megabytes: list[float] = field(default_factory=list)


def write_spec(folder: Path, address: str, rows: int) -> Path:
    """A spec with so many rows to train on, and few others."""
    for split, count in (("train", rows), ("validation", 20), ("test", 20)):
        write_rows(folder / f"{split}.jsonl", count, first={"train": 0, "validation": rows, "test": rows + 20}[split])
    spec = {
        "name": "plan",
        "task": {"type": "conversation"},
        "data": {split: f"{split}.jsonl" for split in ("train", "validation", "test")},
        "teacher": {"model": "loopback", "base_url": address, "price": {"input_per_million": 1.0, "output_per_million": 2.0}},
        "student": {"model": "none"},
        "generation": {"concurrency": 64},
    }
    path = folder / "potstill.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def command(spec: Path) -> list[str]:
    """What a user types."""
    return [sys.executable, "-m", "potstill", "generate", str(spec)]


def watch(spec: Path, asked: Callable[[], dict[str, float]], seconds: float) -> Watched:
    """Start the process, look at it from outside, and kill it when its time is over."""
    seen, started, start = Watched(), time.time(), time.perf_counter()
    child = subprocess.Popen(command(spec), cwd=spec.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while child.poll() is None:
        memory = resident_mb(child.pid)
        if memory is not None:
            seen.megabytes.append(memory)
        found = asked()
        seen.first_s = max(found["first"] - started, 0.0) if found["calls"] else 0.0
        if found["calls"] and time.time() - found["first"] > seconds:
            child.send_signal(signal.SIGKILL)
            break
        time.sleep(_SAMPLE_S)
    seen.seconds = time.perf_counter() - start
    errors = child.communicate()[1]
    seen.done = child.returncode == 0
    if child.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(errors[-2000:])
    seen.records = int(asked()["calls"])
    return seen


def resident_mb(pid: int) -> float | None:
    """The memory of a process; None when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return None
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return int(lines["VmRSS"].split()[0]) / 1024 if "VmRSS" in lines else None


def report(name: str, seen: Watched) -> None:
    """One line."""
    how = "to the end" if seen.done else "then killed"
    later = seen.megabytes[len(seen.megabytes) // 2 :]
    print(
        f"{name:<22}{seen.first_s:>9.2f}{seen.records:>12,}{seen.seconds:>10.1f} s {how:<12}"
        f"{max(seen.megabytes):>10.0f}{sum(later) / len(later):>18.0f}",
        flush=True,
    )


def measure(rows: int, seconds: float, parent: Path | None) -> None:
    """Print a line for a fresh run, and one for the same run going on."""
    with tempfile.TemporaryDirectory(dir=parent) as name, serve() as address:
        spec = write_spec(Path(name), address, rows)
        subprocess.run([sys.executable, "-c", _PREPARE, str(spec)], cwd=name, check=True)
        counts(address, reset=True)
        report(f"{rows:,} rows", watch(spec, lambda: counts(address), seconds))
        if seconds:
            counts(address, reset=True)
            seen = watch(spec, lambda: counts(address), 0.0)
            if seen.records:
                report("  the same, going on", seen)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 1_000_000])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--folder", type=Path, default=None, help="where the runs are made; by default the system's temporary folder")
    options = parser.parse_args()
    print(json.dumps({"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}))
    print(f"{'':<22}{'first s':>9}{'records':>12}{'':>25}{'most MB':>10}{'later half, mean':>18}")
    for rows in options.rows:
        measure(rows, options.seconds, options.folder)


if __name__ == "__main__":
    main()

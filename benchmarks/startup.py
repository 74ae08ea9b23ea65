"""How long the light commands take to start: whole processes, in turn, against an empty Python.

python benchmarks/startup.py
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.tiny import tiny_llama

POTSTILL = str(Path(sys.executable).with_name("potstill"))


def seconds(command: list[str]) -> float:
    """Wall seconds of one whole process, its output thrown away."""
    started = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> None:
    """Time each command in turn, round by round, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([POTSTILL, "init", folder, "--yes", "--sample"], stdout=subprocess.DEVNULL, check=True)
        spec = str(Path(folder) / "potstill.yaml")
        # The sample's own models are local, and their 3.5 MB tokenizer would be what is timed: endpoints that nobody asks, one of them of
        # a provider whose prices are looked up, and a student of a few thousand weights.
        student = f"student={{model: {tiny_llama(Path(folder) / 'student')}}}"
        own = ["--offline", "--set", student, "--set", "teacher={model: x, base_url: 'http://127.0.0.1:9/v1'}"]
        listed = ["--offline", "--set", student, "--set", "teacher={model: deepseek-chat, base_url: 'https://api.deepseek.com/v1'}"]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "import potstill": [sys.executable, "-c", "import potstill"],
            "potstill --help": [POTSTILL, "--help"],
            "potstill check, own endpoint": [POTSTILL, "check", spec, *own],
            "potstill check, listed endpoint": [POTSTILL, "check", spec, *listed],
            "potstill check, local models": [POTSTILL, "check", spec],
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds + 1):
            for name, command in commands.items():
                times[name].append(seconds(command))
    print(f"{'':<34}{'median s':>10}{'min':>8}{'max':>8}")
    for name, found in times.items():
        counted = found[1:]  # the first round warms the disk cache
        print(f"{name:<34}{statistics.median(counted):>10.3f}{min(counted):>8.3f}{max(counted):>8.3f}")


if __name__ == "__main__":
    main()

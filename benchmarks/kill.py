"""`potstill generate` killed with SIGKILL at random moments: what was asked for twice, lost, doubled, or charged beyond the cap.

    python benchmarks/kill.py [KILLS] [--rows-a-kill 40] [--seed 0]

The same that the tests do with fewer kills (`tests/end_to_end/killed_generation.py`): half of the kills fall under a cap that ends the run
too early, half after it was lifted; a server in a process of its own counts and charges.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/end_to_end"))

from killed_generation import WIDTH, kill_again_and_again


def main() -> None:
    """Kill, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kills", type=int, nargs="?", default=50)
    parser.add_argument("--rows-a-kill", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = kill_again_and_again(Path(folder), options.kills, options.kills * options.rows_a_kill, options.seed)
    print(f"{tally.kills} kills, {tally.rows:,} rows, {WIDTH} calls in flight at most, seed {options.seed}, {tally.seconds:.0f} s")
    print(f"in flight when killed  {tally.in_flight:>6,}")
    print(f"asked for twice        {tally.asked_twice:>6,}")
    print(f"lost                   {tally.lost:>6,}")
    print(f"duplicates             {tally.duplicates:>6,}")
    for kind, most in tally.capped.items():
        over = max(tally.charged[kind] - most, 0.0)
        print(f"cap of {most:>10,.6g} {kind:<8} {tally.charged[kind]:>12,.6g} charged, {over:,.6g} over")


if __name__ == "__main__":
    main()

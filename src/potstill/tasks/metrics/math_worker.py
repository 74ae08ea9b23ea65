"""A process that compares two values at a time with math-verify: JSON lines `[gold, answer]` in, `true` or `false` out.

It is a process because symbolic algebra may never come to an end (9^9^9^9), and Python can only stop that from outside:
math-verify's own time limit uses a signal, which works in main threads alone and not within one long multiplication.
It imports nothing of Potstill, so it starts as a plain script.
"""

from __future__ import annotations

import json
import logging
import signal
import sys

_ORPHAN_AFTER_S = 60  # the parent kills a comparison long before; this is for a parent that was killed itself


def compare(gold: str, answer: str) -> bool:
    """Whether math-verify takes `answer` for the value of `gold`."""
    from math_verify import parse, verify

    expressions = [parse(f"${text}$", parsing_timeout=None) for text in (gold, answer)]
    return bool(verify(*expressions, timeout_seconds=None))


def main() -> None:
    """Say that the imports are done, then answer until the input ends."""
    logging.disable(logging.CRITICAL)  # math-verify warns that its own time limit is off
    compare("1", "2")
    print("ready", flush=True)
    for line in sys.stdin:
        if hasattr(signal, "alarm"):
            signal.alarm(_ORPHAN_AFTER_S)
        gold, answer = json.loads(line)
        print(json.dumps(compare(gold, answer)), flush=True)
        if hasattr(signal, "alarm"):
            signal.alarm(0)


if __name__ == "__main__":
    main()

"""The levels at which throughput is measured: how many requests are in flight, and how many are asked at each. No torch, no event loop."""

from __future__ import annotations

import sys

from potstill.spec import RunSpec, TeacherSpec

LONGEST_S = 3.0
"""A level of a local model ends with the batch in which so many seconds have passed."""


def local_levels(spec: RunSpec) -> list[int]:
    """The levels above one of a local model, the smallest first; one request in flight is what latency is measured with."""
    return [level for level in sorted(set(spec.evaluation.concurrency)) if level > 1]


def affordable_levels(spec: RunSpec, endpoint: TeacherSpec, tokens_a_call: int, calls_a_question: int = 1) -> list[int]:
    """The levels above one at which an endpoint is asked, the smallest first.

    Those up to `generation.concurrency` whose calls, all together, fit into its rates of one minute.
    """
    calls = min(
        endpoint.requests_per_minute or sys.maxsize,
        endpoint.tokens_per_minute // max(tokens_a_call, 1) if endpoint.tokens_per_minute else sys.maxsize,
    )
    levels = []
    for level in local_levels(spec):
        size = level_size(level, spec.evaluation.throughput_rows) * calls_a_question
        if level <= spec.generation.concurrency and size <= calls:
            levels.append(level)
            calls -= size
    return levels


def level_size(concurrency: int, rows: int) -> int:
    """Requests of a level: `rows`, and as many more as make whole batches."""
    return -(-rows // concurrency) * concurrency

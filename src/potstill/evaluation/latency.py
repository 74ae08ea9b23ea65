"""Seconds per answer, and tokens per second, of a model that answers one question at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

import numpy as np

from potstill.errors import DataError, ModelError
from potstill.models.base import Model
from potstill.records import Example, Message, Request, Sampling
from potstill.tasks.base import Task

Timing = dict[str, float | int]


def measure_inference_time(
    model: Model, rows: Sequence[Example], task: Task | None = None, *, max_new_tokens: int | None = None, warm_up: int = 1
) -> Timing:
    """Answer each row alone (batch 1, greedy), and time it: `p50_s`, `p95_s`, `mean_s` (seconds an answer), `tokens_per_s`, `n`.

    `task` renders the rows; without one, the turns up to the last user turn are asked as they stand. Answers end after
    `max_new_tokens` (by default the task's limit, 256 without a task). The first row is asked `warm_up` times before, uncounted.
    Calls that fail are not timed; `n` says how many were. Must not be called from a running event loop.
    Raises DataError where there are no rows, ModelError where every call fails.
    """
    limit = max_new_tokens or (task.max_new_tokens if task is not None else 256)
    requests = [Request(_prompt(row, task), Sampling(max_new_tokens=limit)) for row in rows]
    return asyncio.run(time_answers(model, requests, warm_up=warm_up))


async def time_answers(model: Model, requests: Sequence[Request], *, warm_up: int, on_answer: Callable[[], None] = lambda: None) -> Timing:
    """The figures of `measure_inference_time` for requests that are rendered already; `on_answer` is called after each answer.

    Raises DataError where there are no requests, ModelError where every call fails.
    """
    if not requests:
        raise DataError("no rows to measure: give at least one")
    for _ in range(warm_up):
        await model.complete([requests[0]])
        on_answer()
    seconds, tokens, failure = [], 0, ""
    for request in requests:
        started = time.perf_counter()
        [completion] = await model.complete([request])
        elapsed = time.perf_counter() - started
        if completion.finish_reason == "error":
            failure = completion.error or "no reason given"
        else:
            seconds.append(elapsed)
            tokens += completion.usage.output_tokens
        on_answer()
    if not seconds:
        raise ModelError(f"{model.name}: every call failed while latency was measured, the last: {failure}; run the same command again")
    return summarise(seconds, tokens)


def summarise(seconds: Sequence[float], tokens: int) -> Timing:
    """Percentiles (linear between answers), mean and rate of answers that took `seconds` and wrote `tokens` in all."""
    p50, p95 = np.quantile(seconds, [0.5, 0.95])
    total = float(np.sum(seconds))
    return {
        "p50_s": float(p50),
        "p95_s": float(p95),
        "mean_s": total / len(seconds),
        "tokens_per_s": tokens / total if total > 0 else 0.0,
        "n": len(seconds),
    }


def _prompt(row: Example, task: Task | None) -> tuple[Message, ...]:
    if task is not None:
        messages = task.render(row)
        assert messages is not None, "the first question of a row is always there"
        return messages
    last_user = max((index for index, message in enumerate(row.messages) if message.role == "user"), default=-1)
    if last_user < 0:
        raise DataError(f"row {row.id}: has no user turn, so there is nothing to ask")
    return row.messages[: last_user + 1]

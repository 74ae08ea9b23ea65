"""How long a model takes that answers one question at a time: to its first token, from token to token, in all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from potstill.errors import DataError, ModelError
from potstill.models.ask import ask_async
from potstill.models.base import Model
from potstill.models.budget import Budget
from potstill.records import Completion, Example, Message, Request, Sampling
from potstill.store.ledger import Ledger
from potstill.tasks.base import Task

Timing = dict[str, float | int]
_SAMPLES_KEPT = 500


@dataclass(frozen=True, slots=True)
class Timed:
    """One answer on the clock: seconds in all, tokens written, and seconds to its first token (None: not known).

    `earlier` tokens were written before that one: by thinking, or by calls that led to the one which answers.
    """

    seconds: float
    tokens: int
    first_s: float | None = None
    earlier: int = 0


def measure_inference_time(
    model: Model, rows: Sequence[Example], task: Task | None = None, *, max_new_tokens: int | None = None, warm_up: int = 1
) -> Timing:
    """Answer each row alone (batch 1, greedy), and time it; the figures are those of `summarise`.

    `task` renders the rows; without one, the turns up to the last user turn are asked as they stand. Answers end after
    `max_new_tokens` (by default the task's limit, 256 without a task). The first row is asked `warm_up` times before, uncounted.
    Calls that fail are not timed; `n` says how many were. Must not be called from a running event loop.
    Raises DataError where there are no rows, ModelError where every call fails.
    """
    limit = max_new_tokens or (task.max_new_tokens if task is not None else 256)
    schema = task.schema if task is not None else None
    requests = [Request(_prompt(row, task), Sampling(max_new_tokens=limit), schema=schema) for row in rows]
    return asyncio.run(time_answers(model, requests, warm_up=warm_up))


async def time_answers(model: Model, requests: Sequence[Request], *, warm_up: int) -> Timing:
    """The figures of `measure_inference_time` for requests that are rendered already. Raises as `time_each` does."""
    return summarise([timed for timed in await time_each(model, requests, warm_up=warm_up) if timed is not None])


async def time_each(
    model: Model, requests: Sequence[Request], *, warm_up: int, on_answer: Callable[[], None] = lambda: None
) -> list[Timed | None]:
    """Ask one request after the other; None where a call failed. `on_answer` is called after each answer, uncounted ones included.

    Raises DataError where there are no requests, ModelError where every call fails.
    """
    if not requests:
        raise DataError("no rows to measure: give at least one")
    asked = [replace(request, streamed=True) for request in requests]
    for _ in range(warm_up):
        await model.complete([asked[0]])
        on_answer()
    found: list[Timed | None] = []
    failure = ""
    for request in asked:
        started = time.perf_counter()
        [completion] = await model.complete([request])
        elapsed = time.perf_counter() - started
        failed = completion.finish_reason == "error"
        failure = (completion.error or "no reason given") if failed else failure
        found.append(None if failed else _timed(elapsed, completion))
        on_answer()
    if not any(found):
        raise ModelError(f"{model.name}: every call failed while latency was measured, the last: {failure}; run the same command again")
    return found


async def time_recorded(
    model: Model, requests: Sequence[Request], ledger: Ledger, budget: Budget, *, warm_up: int, on_answer: Callable[[], None]
) -> list[Timed | None]:
    """`time_each` of an endpoint, through the ledger: each call is held against the budget, and none is paid twice.

    The calls are of their own, with a name of their own: an answer that is in the ledger for another reason was not timed alone. They ask
    for a stream; of an endpoint that gives none the first token's time is not known.
    """
    if not requests:
        raise DataError("no rows to measure: give at least one")
    named = [replace(requests[0], prompt_version=f"warm-up {number}", streamed=True) for number in range(warm_up)]
    named += [replace(request, prompt_version="latency", streamed=True) for request in requests]
    found: list[Completion] = []
    for request in named:
        answers = await ask_async(model, [request], ledger, budget=budget)
        found.append(answers.of(request))
        on_answer()
    timed = [None if one.finish_reason == "error" else _timed(one.latency_s, one) for one in found[warm_up:]]
    if not any(timed):
        raise ModelError(f"{model.name}: every call failed while latency was measured ({found[-1].error}); run the same command again")
    return timed


def summarise(answers: Sequence[Timed]) -> Timing:
    """`p50_s`, `p95_s` (percentiles, linear between answers), `mean_s`: seconds an answer; `tokens_per_answer`; `tokens_per_s`; `n`.

    Where the first tokens' times are known, `first_token_s` is their median (what reading the prompt takes, for the most part), and
    `tokens_per_s` the rate of the tokens after the first; else, and where no answer has a second token, that of whole calls.
    """
    seconds = [answer.seconds for answer in answers]
    p50, p95 = np.quantile(seconds, [0.5, 0.95])
    firsts = [answer.first_s for answer in answers if answer.first_s is not None]
    return {
        "p50_s": float(p50),
        "p95_s": float(p95),
        "mean_s": float(np.mean(seconds)),
        **({"first_token_s": float(np.median(firsts))} if firsts else {}),
        "tokens_per_answer": float(np.mean([answer.tokens for answer in answers])),
        "tokens_per_s": _rate(answers),
        "n": len(answers),
    }


def describe(answers: Sequence[Timed]) -> dict[str, Any]:
    """The figures of `summarise` as `scores.json` holds them: `latency_s` (`p50`, `p95`, `p99`, and up to 500 `samples` in the order of the
    questions, so that those of two systems pair), and `first_token_s` (`p50`, `p95`) where it is known, beside the other keys."""
    seconds = [answer.seconds for answer in answers]
    firsts = [answer.first_s for answer in answers if answer.first_s is not None]
    plain = {key: value for key, value in summarise(answers).items() if key != "first_token_s"}
    first = {"first_token_s": _percentiles(firsts, (50, 95))} if firsts else {}
    return {**plain, "latency_s": {**_percentiles(seconds, (50, 95, 99)), "samples": seconds[:_SAMPLES_KEPT]}, **first}


def _timed(seconds: float, answer: Completion) -> Timed:
    return Timed(seconds, answer.usage.output_tokens, answer.first_token_s, answer.thinking_tokens)


def _percentiles(seconds: Sequence[float], percents: Sequence[int]) -> dict[str, float]:
    return {f"p{percent}": float(np.percentile(seconds, percent)) for percent in percents}


def _rate(answers: Sequence[Timed]) -> float:
    known = [(answer.tokens - answer.earlier - 1, answer.seconds - answer.first_s) for answer in answers if answer.first_s is not None]
    later = [(tokens, seconds) for tokens, seconds in known if tokens > 0]
    tokens, seconds = np.sum(later or [(answer.tokens, answer.seconds) for answer in answers], axis=0)
    return float(tokens / seconds) if seconds > 0 else 0.0


def _prompt(row: Example, task: Task | None) -> tuple[Message, ...]:
    if task is not None:
        messages = task.render(row)
        assert messages is not None, "the first question of a row is always there"
        return messages
    last_user = max((index for index, message in enumerate(row.messages) if message.role == "user"), default=-1)
    if last_user < 0:
        raise DataError(f"row {row.id}: has no user turn, so there is nothing to ask")
    return row.messages[: last_user + 1]

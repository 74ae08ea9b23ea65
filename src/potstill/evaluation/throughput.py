"""What a model answers a second while so many requests are in flight, all the time: a closed loop, as of so many users who do not pause.

A local model is served as Potstill serves it, in batches: as many requests as are in flight are one batch, in the order in which they
come, and the next batch starts when the last answer is written. So a request waits for the longest answer of its batch. An endpoint
answers each as it can, and whoever has an answer sends the next request.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from potstill.errors import BudgetError
from potstill.evaluation.latency import Timed
from potstill.evaluation.levels import LONGEST_S, level_size
from potstill.models.ask import ask_async
from potstill.models.base import Counted, Model
from potstill.models.budget import Budget
from potstill.models.questions import request_key
from potstill.records import Completion, Cost, Request
from potstill.store.events import Progress
from potstill.store.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Served:
    """One level: `answers` that came in `seconds` while `concurrency` requests were in flight, each with how long it was waited for."""

    concurrency: int
    seconds: float
    answers: tuple[Timed, ...]

    def to_json(self) -> dict[str, Any]:
        """`concurrency`, `requests_per_s`, `tokens_per_s` (written), `p50_s` and `p95_s` that a request was waited for, `n` answers."""
        p50, p95 = np.quantile([answer.seconds for answer in self.answers], [0.5, 0.95])
        return {
            "concurrency": self.concurrency,
            "requests_per_s": len(self.answers) / self.seconds,
            "tokens_per_s": sum(answer.tokens for answer in self.answers) / self.seconds,
            "p50_s": float(p50),
            "p95_s": float(p95),
            "n": len(self.answers),
        }


def one_at_a_time(answers: Sequence[Timed]) -> Served:
    """The level of one request in flight, which latency was measured with."""
    return Served(1, sum(answer.seconds for answer in answers), tuple(answers))


@dataclass(frozen=True, slots=True)
class Batch:
    """Questions that were answered together: in how many seconds, and the tokens of each answer (None: it failed)."""

    seconds: float
    tokens: tuple[int | None, ...]


async def serve_batches(
    model: Model,
    questions: Sequence[Sequence[Request]],
    concurrency: int,
    *,
    rows: int,
    on_answers: Callable[[int], None] = lambda _: None,
    longest_s: float = LONGEST_S,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Batch]:
    """The batches of a level of a model that answers in batches.

    The same `questions` in the same order for every model, each of one request or of several, one after the other; a slow model ends with
    the batch of questions in which `longest_s` have passed.
    """
    found: list[Batch] = []
    started = last = clock()
    waiting = itertools.cycle(questions)
    for _ in range(level_size(concurrency, rows) // concurrency):
        batch = list(itertools.islice(waiting, concurrency))
        said: list[list[Completion]] = [[] for _ in batch]
        for call in range(max(map(len, batch))):
            asking = [place for place, question in enumerate(batch) if call < len(question)]
            completions = await model.complete([batch[place][call] for place in asking])
            for place, completion in zip(asking, completions, strict=True):
                said[place].append(completion)
            on_answers(len(completions))
        before, last = last, clock()
        found.append(Batch(last - before, tuple(_written(answers) if _answered(answers) else None for answers in said)))
        if last - started >= longest_s:
            break
    return found


def served_alike(batches: Mapping[str, Mapping[int, Sequence[Batch]]]) -> dict[str, list[Served]]:
    """The levels of each system, of batches by name and concurrency, counted over those that all of them came to: the same requests.

    A level in which a system answered nothing is left out for that system.
    """
    levels = {system: [(level, _first(batches, level)) for level in found] for system, found in batches.items()}
    served = {system: [_served(level, batches[system][level][:count]) for level, count in counted] for system, counted in levels.items()}
    return {system: [one for one in found if one is not None] for system, found in served.items()}


def _first(batches: Mapping[str, Mapping[int, Sequence[Batch]]], level: int) -> int:
    return min(len(found[level]) for found in batches.values() if level in found)


def _served(concurrency: int, batches: Sequence[Batch]) -> Served | None:
    answers = tuple(Timed(batch.seconds, tokens) for batch in batches for tokens in batch.tokens if tokens is not None)
    return Served(concurrency, sum(batch.seconds for batch in batches), answers) if answers else None


async def serve_calls(
    model: Model, questions: Sequence[Sequence[Request]], concurrency: int, *, rows: int, ledger: Ledger, budget: Budget, progress: Progress
) -> Served | None:
    """A level of an endpoint whose `concurrency` is that of the level; None where no question was answered.

    A question of several requests is waited for as long as for all of them one after the other. Each call is paid once, whatever is
    killed: its answer stands in the ledger, and the seconds are those in which calls were in flight. Raises as `ask_async`, and
    BudgetError, before anything is asked, where its calls may pass a cap.
    """
    assert isinstance(model, Counted), "an endpoint says what a call may cost"
    asked = list(_named(questions, concurrency, level_size(concurrency, rows)))
    named = list(itertools.chain.from_iterable(asked))
    keys = [request_key(model, request) for request in named]
    wanted = set(ledger.missing(keys))
    most = sum((model.most(request) for key, request in zip(keys, named, strict=True) if key in wanted), Cost())
    if passed := budget.caps.passed_by(budget.spent + most):
        raise BudgetError(f"its {len(wanted)} calls may pass the budget of {passed}")
    answers = await ask_async(model, named, ledger, progress, budget)
    said = [[answers.of(request) for request in question] for question in asked]
    timed = [Timed(sum(one.latency_s for one in calls), _written(calls)) for calls in said if _answered(calls)]
    seconds = ledger.seconds_in_flight(keys)
    return Served(concurrency, seconds, tuple(timed)) if timed else None


def _named(questions: Sequence[Sequence[Request]], concurrency: int, size: int) -> Iterator[list[Request]]:
    """Questions of a level; each is one of its own, which no answer that was given otherwise stands for."""
    for number, question in zip(range(size), itertools.cycle(questions), strict=False):
        yield [replace(request, prompt_version=f"throughput {concurrency}.{number}") for request in question]


def _answered(completions: Sequence[Completion]) -> bool:
    return all(one.finish_reason != "error" for one in completions)


def _written(completions: Sequence[Completion]) -> int:
    return sum(one.usage.output_tokens for one in completions)

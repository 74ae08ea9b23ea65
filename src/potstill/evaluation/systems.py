"""The systems of a run, examined one after the other: replies to the test questions, latency, memory, sizes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from potstill.errors import BudgetError, ModelError
from potstill.evaluation.compare import TEACHER
from potstill.evaluation.latency import Timed, describe, time_each, time_recorded
from potstill.evaluation.levels import affordable_levels, level_size, local_levels
from potstill.evaluation.measure import MeasureRequest, measure_alone
from potstill.evaluation.memory import profile_memory
from potstill.evaluation.predict import Question, Reply, ask_questions
from potstill.evaluation.roster import roster
from potstill.evaluation.system import System
from potstill.evaluation.taught import Prompting, ask_as_taught, open_prompting
from potstill.evaluation.throughput import Served, one_at_a_time, serve_calls, served_alike
from potstill.models.base import Model, Remote
from potstill.models.budget import Budget, Caps
from potstill.models.load import load_teacher
from potstill.models.recall import last_minute, recall_calls, recall_ledger
from potstill.records import Cost, Request
from potstill.store.ledger import Ledger
from potstill.store.ledger_sums import Recent
from potstill.store.run import Run
from potstill.tasks.base import Task

_WARM_UP = 1


class Examiner:
    """Asks the systems of a run one after the other, then times them; the ledger keeps what was answered.

    What endpoints are asked counts against the run's budget and their rates, with what they were asked before.
    """

    def __init__(self, run: Run, task: Task, ledger: Ledger, labels: Sequence[str] = ()) -> None:
        self._run, self._task, self._ledger = run, task, ledger
        # Labels in JSON, or after reasons, are not what the answer's first tokens decide between.
        wanted = run.spec.evaluation.probabilities is not False and run.spec.task.answer_schema is None and not run.spec.task.reasons
        self._labels = tuple(labels) if wanted else ()
        self.systems = roster(run)
        self._prompting: Prompting | None = open_prompting(run, task) if TEACHER in self.systems else None
        self.identities: dict[str, str] = {}
        """By system, whose weights or which endpoint gave its answers."""
        self._budget: Budget | None = None
        self._generating: list[Recent] = []
        """What the teacher was asked in the minute before by the generation."""

    def ask(self, system: str, questions: Sequence[Question]) -> list[Reply]:
        """A system's replies to all questions; those that stand in the ledger are not asked for again."""
        return asyncio.run(self._ask(self.systems[system], questions))

    def charged(self, name: str, model: Model) -> tuple[Ledger, Budget]:
        """The ledger, open for what is asked in this name from now on, and the budget that it counts against."""
        self._ledger.run = name
        return self._ledger, self._budget_for(model)

    def dollars(self, name: str) -> float | None:
        """What was spent in this name; None where a price is unknown."""
        self._ledger.run = name
        return self._ledger.dollars()

    def measure(self, questions: Sequence[Question], replies: Mapping[str, Sequence[Reply]]) -> dict[str, dict[str, Any]]:
        """Measurements of each system of `replies`: `where`, latency, throughput, memory, sizes; all are timed on the same questions.

        A local model is measured in a process of its own; an endpoint over the wire, from here; recorded answers are not timed. What was
        asked in several calls is timed in all of them. Raises ModelError where no question was answered by all.
        """
        answered = [index for index in range(len(questions)) if all(_arrived(found[index]) for found in replies.values())]
        chosen = _evenly(answered, self._run.spec.evaluation.latency_rows)
        measured = {name: self._time(self.systems[name], [found[index].requests for index in chosen]) for name, found in replies.items()}
        answers = {name: found.pop("answers") for name, found in measured.items() if "answers" in found}
        common = [place for place in range(len(chosen)) if all(found[place] is not None for found in answers.values())]
        if answers and not common:
            raise ModelError("no question was answered by every system while latency was measured; run the same command again")
        batches = {name: found.pop("batches") for name, found in measured.items() if "batches" in found}
        levels = served_alike(batches) | {name: found.pop("served") for name, found in measured.items() if "served" in found}
        for name, found in answers.items():
            timed = [found[place] for place in common]
            alone = [one_at_a_time(timed)] if 1 in self._run.spec.evaluation.concurrency else []
            measured[name] |= {**describe(timed), "throughput": [level.to_json() for level in [*alone, *levels[name]]]}
        for name, found in measured.items():
            if self.systems[name].asked is not None:
                found["dollars"] = self.dollars(name)
        return measured

    async def _ask(self, system: System, questions: Sequence[Question]) -> list[Reply]:
        model, task, prompting = system.load(), self._task, self._prompting if system.name == TEACHER else None
        self._ledger.run, self.identities[system.name] = system.name, model.identity
        steps = 1 if prompting is None else prompting.strategy.steps
        try:
            with self._run.events.progress(f"{system.name} answers", len(questions) * steps, "answers") as progress:
                budget = self._budget_for(model) if system.asked is not None else None
                if prompting is None:
                    return await ask_questions(model, task, questions, self._ledger, progress=progress, budget=budget, labels=self._labels)
                return await ask_as_taught(model, task, questions, self._ledger, prompting, progress=progress, budget=budget)
        finally:
            await model.close()

    def _time(self, system: System, asked: Sequence[tuple[Request, ...]]) -> dict[str, Any]:
        """The measurements of one system; `answers` holds what each question took, all its requests together."""
        if system.recorded:
            return {"where": "recorded", "over_the_wire": False, **profile_memory(system.load())}
        requests, counts = list(itertools.chain.from_iterable(asked)), [len(one) for one in asked]
        if system.weights is None:
            found = asyncio.run(self._time_here(system, asked, requests))
        else:
            found = self._time_alone(system, MeasureRequest(system.weights, tuple(requests), _threads(), _WARM_UP, calls=tuple(counts)))
        return {**found, "answers": _by_question(found["answers"], counts)}

    def _time_alone(self, system: System, request: MeasureRequest) -> dict[str, Any]:
        levels, rows = tuple(local_levels(self._run.spec)), self._run.spec.evaluation.throughput_rows
        calls = len(request.requests) / max(len(request.calls), 1)
        expected = len(request.requests) + _WARM_UP + sum(round(level_size(level, rows) * calls) for level in levels)
        with self._run.events.progress(f"{system.name} latency", expected, "answers") as progress:
            measured = measure_alone(replace(request, levels=levels, level_rows=rows), progress.advance)
            progress.finish()
        return {"where": "in a process of its own", "over_the_wire": False, **measured}

    async def _time_here(self, system: System, asked: Sequence[tuple[Request, ...]], requests: Sequence[Request]) -> dict[str, Any]:
        model = system.load()
        wire = isinstance(model, Remote)
        with self._run.events.progress(f"{system.name} latency", len(requests) + _WARM_UP, "answers") as progress:
            try:
                if isinstance(model, Remote):
                    self._ledger.run = system.name
                    budget = self._budget_for(model)
                    answers = await time_recorded(model, requests, self._ledger, budget, warm_up=_WARM_UP, on_answer=progress.advance)
                else:
                    answers = await time_each(model, requests, warm_up=_WARM_UP, on_answer=progress.advance)
            finally:
                await model.close()
        served = await self._levels_over_the_wire(system, model, asked) if isinstance(model, Remote) else []
        where = "over the wire" if wire else "in this process"
        return {"where": where, "over_the_wire": wire, "answers": answers, "served": served, **profile_memory(model)}

    async def _levels_over_the_wire(self, system: System, endpoint: Remote, asked: Sequence[tuple[Request, ...]]) -> list[Served]:
        """Throughput of the levels that rates and budget allow; each is a model of its own, with so many calls in flight."""
        assert system.asked is not None, "an endpoint is named by the spec"
        spec, found, name, calls = self._run.spec, list[Served](), system.name, max(map(len, asked))
        tokens = max(endpoint.likely(request) for question in asked for request in question)
        for level in affordable_levels(spec, system.asked, tokens, calls):
            model = load_teacher(system.asked, spec.generation.model_copy(update={"concurrency": level}))
            budget, rows = self._budget_for(model), spec.evaluation.throughput_rows
            with self._run.events.progress(f"{name}, {level} at once", level_size(level, rows) * calls, "answers") as progress:
                try:
                    served = await serve_calls(model, asked, level, rows=rows, ledger=self._ledger, budget=budget, progress=progress)
                except BudgetError as error:
                    self._run.events.warn(f"the throughput of {name} with {level} calls in flight was not measured: {error}")
                    break
                finally:
                    await model.close()
            found += [] if served is None else [served]
        return found

    def _budget_for(self, model: Model) -> Budget:
        """What is left of the run's budget, the same for all that is asked here; the model's rates count what was asked before."""
        if self._budget is None:
            spec, path = self._run.spec, self._run.ledger_path
            with contextlib.ExitStack() as stack:
                earlier = [stack.enter_context(Ledger(path, run=spec.name))] if path.exists() else []
                before = [(ledger.spent(), ledger.seconds_asked()) for ledger in earlier]
                self._generating = [calls for ledger in earlier for calls in last_minute(ledger)]
            before += self._charged_before()
            spent, seconds = sum((cost for cost, _ in before), Cost()), sum(taken for _, taken in before)
            self._budget = Budget(Caps.of(spec.generation.budget), spent, seconds)
        recall_calls([model], self._generating, time.time())
        recall_ledger([model], self._ledger)
        return self._budget

    def _charged_before(self) -> list[tuple[Cost, float]]:
        """What earlier processes have spent on this evaluation: what systems were asked that are paid for, and how long it took."""
        asking = self._ledger.run
        found = []
        for name in (*(system.name for system in self.systems.values() if system.asked is not None), "judge"):
            self._ledger.run = name
            found.append((self._ledger.spent(), self._ledger.seconds_asked()))
        self._ledger.run = asking
        return found


def _arrived(reply: Reply) -> bool:
    return not reply.failed and not reply.no_room


def _evenly(places: Sequence[int], most: int) -> list[int]:
    """At most so many of the places, evenly spaced."""
    count = min(most, len(places))
    return [places[index * len(places) // count] for index in range(count)]


def _by_question(timed: Sequence[Timed | None], counts: Sequence[int]) -> list[Timed | None]:
    """What questions took that were asked in so many calls each. None: one failed."""
    left = iter(timed)
    found = [[one for one in itertools.islice(left, count) if one is not None] for count in counts]
    return [whole_question(calls) if len(calls) == count else None for calls, count in zip(found, counts, strict=True)]


def whole_question(calls: Sequence[Timed]) -> Timed:
    """What a question took that was asked in these calls; the first token that counts is the last call's, and so is the rate."""
    before, written, last = sum(one.seconds for one in calls[:-1]), sum(one.tokens for one in calls[:-1]), calls[-1]
    first_s = None if last.first_s is None else before + last.first_s
    return Timed(before + last.seconds, written + last.tokens, first_s, written + last.earlier)


def _threads() -> int:
    import torch

    return torch.get_num_threads()

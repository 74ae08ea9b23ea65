"""The systems of a run, examined one after the other: replies to the test questions, latency, memory, sizes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.errors import BudgetError, ModelError
from potstill.evaluation.compare import BASELINE, SFT, STUDENT, TEACHER
from potstill.evaluation.latency import describe, time_each, time_recorded
from potstill.evaluation.levels import affordable_levels, level_size, local_levels
from potstill.evaluation.measure import MeasureRequest, measure_alone
from potstill.evaluation.memory import profile_memory
from potstill.evaluation.predict import Question, Reply, ask_questions, greedy_requests
from potstill.evaluation.throughput import Served, one_at_a_time, serve_calls, served_alike
from potstill.models.base import Model, Remote
from potstill.models.budget import Budget
from potstill.models.load import load_local, load_teacher, weights_of
from potstill.models.locate import is_local
from potstill.models.recall import last_minute, recall_calls, recall_ledger
from potstill.records import Request
from potstill.spec import WeightsSpec
from potstill.store.ledger import Ledger
from potstill.store.ledger_sums import Recent
from potstill.store.run import Run
from potstill.tasks.base import Task

_FOLDERS = {BASELINE: "baseline", STUDENT: "best", SFT: "sft/best"}
_WARM_UP = 1


def examined(run: Run) -> tuple[str, ...]:
    """The systems that the spec names, and before the student the plain one that was trained to be compared with it, if one was."""
    named = run.spec.evaluation.systems
    if not run.spec.training.compare_with_sft or "training/sft/summary.json" not in run.stage("train").outputs():
        return named
    place = named.index(STUDENT) if STUDENT in named else len(named)
    return (*named[:place], SFT, *named[place:])


class Examiner:
    """Asks the systems of a run one after the other, then times them; the ledger keeps what was answered.

    What the teacher is asked counts against the run's budget and its endpoint's rates, with what it was asked before.
    """

    def __init__(self, run: Run, task: Task, ledger: Ledger) -> None:
        self._run, self._task, self._ledger = run, task, ledger
        self._budget: Budget | None = None
        self._generating: list[Recent] = []
        """What the teacher was asked in the minute before by the generation."""

    def ask(self, system: str, questions: Sequence[Question]) -> list[Reply]:
        """A system's replies to all questions; those that stand in the ledger are not asked for again."""
        return asyncio.run(self._ask(system, questions))

    def measure(self, questions: Sequence[Question], replies: Mapping[str, Sequence[Reply]]) -> dict[str, dict[str, Any]]:
        """Measurements of each system of `replies`: `where`, latency, throughput, memory, sizes; all are timed on the same questions.

        A local model is measured in a process of its own; an endpoint over the wire, from here; recorded answers are not timed. Raises
        ModelError where no question was answered by all.
        """
        answered = [question for index, question in enumerate(questions) if all(_arrived(found[index]) for found in replies.values())]
        requests = _latency_requests(self._run, self._task, answered)
        measured = {system: self._time(system, requests) for system in replies}
        answers = {system: found.pop("answers") for system, found in measured.items() if "answers" in found}
        common = [index for index in range(len(requests)) if all(found[index] is not None for found in answers.values())]
        if answers and not common:
            raise ModelError("no question was answered by every system while latency was measured; run the same command again")
        batches = {system: found.pop("batches") for system, found in measured.items() if "batches" in found}
        levels = served_alike(batches) | {system: found.pop("served") for system, found in measured.items() if "served" in found}
        for system, found in answers.items():
            timed = [found[index] for index in common]
            alone = [one_at_a_time(timed)] if 1 in self._run.spec.evaluation.concurrency else []
            measured[system] |= {**describe(timed), "throughput": [level.to_json() for level in [*alone, *levels[system]]]}
        if TEACHER in measured:
            self._ledger.run = TEACHER
            measured[TEACHER]["dollars"] = self._ledger.dollars()
        return measured

    async def _ask(self, system: str, questions: Sequence[Question]) -> list[Reply]:
        run, weights = self._run, local_weights(self._run, system)
        batch_size = run.spec.generation.batch_size
        model = load_teacher(run.spec.teacher, run.spec.generation) if weights is None else load_local(weights, batch_size)
        self._ledger.run = system
        try:
            with run.events.progress(f"{system} answers", len(questions), "answers") as progress:
                return await ask_questions(
                    model,
                    self._task,
                    questions,
                    self._ledger,
                    progress=progress,
                    budget=self._budget_for(model) if system == TEACHER else None,
                )
        finally:
            await model.close()

    def _time(self, system: str, requests: Sequence[Request]) -> dict[str, Any]:
        weights, evaluation = local_weights(self._run, system), self._run.spec.evaluation
        if weights is None:
            return asyncio.run(self._time_here(requests))
        levels = tuple(local_levels(self._run.spec))
        request = MeasureRequest(weights, tuple(requests), _threads(), _WARM_UP, levels, evaluation.throughput_rows)
        expected = len(requests) + _WARM_UP + sum(level_size(level, evaluation.throughput_rows) for level in levels)
        with self._run.events.progress(f"{system} latency", expected, "answers") as progress:
            measured = measure_alone(request, progress.advance)
            progress.finish()
        return {"where": "in a process of its own", "over_the_wire": False, **measured}

    async def _time_here(self, requests: Sequence[Request]) -> dict[str, Any]:
        spec = self._run.spec
        model = load_teacher(spec.teacher, spec.generation)
        if spec.teacher.replay is not None:
            await model.close()
            return {"where": "recorded", "over_the_wire": False, **profile_memory(model)}
        with self._run.events.progress("teacher latency", len(requests) + _WARM_UP, "answers") as progress:
            try:
                if isinstance(model, Remote):
                    self._ledger.run = TEACHER
                    budget = self._budget_for(model)
                    answers = await time_recorded(model, requests, self._ledger, budget, warm_up=_WARM_UP, on_answer=progress.advance)
                else:
                    answers = await time_each(model, requests, warm_up=_WARM_UP, on_answer=progress.advance)
            finally:
                await model.close()
        wire = isinstance(model, Remote)
        served = await self._levels_over_the_wire(model, requests) if isinstance(model, Remote) else []
        where = "over the wire" if wire else "in this process"
        return {"where": where, "over_the_wire": wire, "answers": answers, "served": served, **profile_memory(model)}

    async def _levels_over_the_wire(self, teacher: Remote, requests: Sequence[Request]) -> list[Served]:
        """Throughput of the levels that rates and budget allow; each is a model of its own, with so many calls in flight."""
        spec, found = self._run.spec, list[Served]()
        for level in affordable_levels(spec, max(map(teacher.likely, requests))):
            model = load_teacher(spec.teacher, spec.generation.model_copy(update={"concurrency": level}))
            budget, rows = self._budget_for(model), spec.evaluation.throughput_rows
            with self._run.events.progress(f"teacher, {level} at once", level_size(level, rows), "answers") as progress:
                try:
                    served = await serve_calls(model, requests, level, rows=rows, ledger=self._ledger, budget=budget, progress=progress)
                except BudgetError as error:
                    self._run.events.warn(f"the teacher's throughput with {level} calls in flight was not measured: {error}")
                    break
                finally:
                    await model.close()
            found += [] if served is None else [served]
        return found

    def _budget_for(self, teacher: Model) -> Budget:
        """What is left of the run's budget, the same for all that is asked here; the teacher's rates count what was asked before."""
        if self._budget is None:
            spec, path = self._run.spec, self._run.ledger_path
            with contextlib.ExitStack() as stack:
                earlier = [stack.enter_context(Ledger(path, run=spec.name))] if path.exists() else []
                self._budget = Budget.left(spec.generation.budget, *earlier, self._ledger)
                self._generating = [calls for ledger in earlier for calls in last_minute(ledger)]
        recall_calls([teacher], self._generating, time.time())
        recall_ledger([teacher], self._ledger)
        return self._budget


def local_weights(run: Run, system: str) -> WeightsSpec | None:
    """The weights of a local system; None for a teacher behind an endpoint."""
    if system == TEACHER:
        return weights_of(run.spec.teacher) if is_local(run.spec.teacher) else None
    student = run.spec.student
    return WeightsSpec(
        model=str(run.path("training", _FOLDERS[system])),
        trust_remote_code=student.trust_remote_code,
        dtype=student.dtype,
        device=student.device,
    )


def _arrived(reply: Reply) -> bool:
    return not reply.failed and not reply.no_room


def _latency_requests(run: Run, task: Task, questions: Sequence[Question]) -> list[Request]:
    """Questions for the clock, evenly spaced over the test split."""
    count = min(run.spec.evaluation.latency_rows, len(questions))
    chosen = [questions[index * len(questions) // count] for index in range(count)]
    return greedy_requests(task, chosen)


def _threads() -> int:
    import torch

    return torch.get_num_threads()

"""The systems of a run, examined one after the other: replies to the test questions, latency, memory, sizes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.errors import ModelError
from potstill.evaluation.compare import TEACHER
from potstill.evaluation.latency import summarise, time_each
from potstill.evaluation.measure import MeasureRequest, measure_alone
from potstill.evaluation.memory import profile_memory
from potstill.evaluation.predict import Question, Reply, ask_questions, greedy_requests
from potstill.models.echo import EchoModel
from potstill.models.load import load_local, load_teacher, weights_of
from potstill.models.locate import is_local
from potstill.records import Request
from potstill.spec import WeightsSpec
from potstill.store.events import Progress
from potstill.store.ledger import Ledger
from potstill.store.run import Run
from potstill.tasks.base import Task

_FOLDERS = {"baseline": "baseline", "student": "best"}
_WARM_UP = 1


def ask_system(run: Run, system: str, task: Task, questions: Sequence[Question], ledger: Ledger) -> list[Reply]:
    """A system's replies to all questions; those that stand in the ledger are not asked for again."""
    return asyncio.run(_ask(run, system, task, questions, ledger))


def measure_systems(
    run: Run, task: Task, questions: Sequence[Question], replies: Mapping[str, Sequence[Reply]]
) -> dict[str, dict[str, Any]]:
    """Measurements of each system of `replies`: `where`, latency, rate, memory, sizes; all are timed on the same questions.

    A local model is measured in a process of its own; an endpoint over the wire, from here. Raises ModelError where no question was
    answered by all.
    """
    answered = [question for index, question in enumerate(questions) if all(_arrived(found[index]) for found in replies.values())]
    requests = _latency_requests(run, task, answered)
    measured = {system: _measure(run, system, requests) for system in replies}
    answers = {system: found.pop("answers") for system, found in measured.items()}
    common = [index for index in range(len(requests)) if all(found[index] is not None for found in answers.values())]
    if not common:
        raise ModelError("no question was answered by every system while latency was measured; run the same command again")
    return {system: {**found, **summarise([answers[system][index] for index in common])} for system, found in measured.items()}


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


async def _ask(run: Run, system: str, task: Task, questions: Sequence[Question], ledger: Ledger) -> list[Reply]:
    weights = local_weights(run, system)
    model = load_teacher(run.spec.teacher, run.spec.generation) if weights is None else load_local(weights, run.spec.generation.batch_size)
    try:
        with run.events.progress(f"{system} answers", len(questions), "answers") as progress:
            return await ask_questions(model, task, questions, ledger, max_new_tokens=task.max_new_tokens, progress=progress)
    finally:
        await model.close()


def _arrived(reply: Reply) -> bool:
    return not reply.failed and not reply.no_room


def _measure(run: Run, system: str, requests: Sequence[Request]) -> dict[str, Any]:
    weights = local_weights(run, system)
    with run.events.progress(f"{system} latency", len(requests) + _WARM_UP, "answers") as progress:
        if weights is None:
            return asyncio.run(_measure_here(run, requests, progress))
        request = MeasureRequest(weights, tuple(requests), _threads(), _WARM_UP)
        return {"where": "in a process of its own", **measure_alone(request, progress.advance)}


async def _measure_here(run: Run, requests: Sequence[Request], progress: Progress) -> dict[str, Any]:
    model = load_teacher(run.spec.teacher, run.spec.generation)
    try:
        answers = await time_each(model, requests, warm_up=_WARM_UP, on_answer=progress.advance)
    finally:
        await model.close()
    return {"where": "in this process" if isinstance(model, EchoModel) else "over the wire", "answers": answers, **profile_memory(model)}


def _latency_requests(run: Run, task: Task, questions: Sequence[Question]) -> list[Request]:
    """Questions for the clock, evenly spaced over the test split."""
    count = min(run.spec.evaluation.latency_rows, len(questions))
    chosen = [questions[index * len(questions) // count] for index in range(count)]
    return greedy_requests(chosen, task.max_new_tokens)


def _threads() -> int:
    import torch

    return torch.get_num_threads()

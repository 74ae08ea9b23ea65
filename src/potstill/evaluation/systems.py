"""The systems of a run, examined one after the other: replies to the test questions, latency, memory, sizes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from potstill.evaluation.compare import TEACHER
from potstill.evaluation.latency import time_answers
from potstill.evaluation.measure import MeasureRequest, measure_alone
from potstill.evaluation.memory import profile_memory
from potstill.evaluation.predict import Question, Reply, ask_questions, greedy_requests
from potstill.models.base import Model
from potstill.models.echo import EchoModel
from potstill.models.load import load_local, load_teacher, weights_of
from potstill.models.locate import is_local
from potstill.records import Request
from potstill.spec import WeightsSpec
from potstill.store.ledger import Ledger
from potstill.store.run import Run
from potstill.tasks.base import Task

_FOLDERS = {"baseline": "baseline", "student": "best"}
_WARM_UP = 1


def examine_system(run: Run, system: str, task: Task, questions: Sequence[Question], ledger: Ledger) -> tuple[list[Reply], dict[str, Any]]:
    """A system's replies to all questions, and its measurements: `where`, `n`, latency, rate, memory, sizes.

    A local model is measured in a process of its own, after it left this one; an endpoint over the wire, from here.
    """
    requests = _latency_requests(run, task, questions)
    weights = local_weights(run, system)
    replies, measured = asyncio.run(_ask(run, system, task, questions, ledger))
    if weights is not None:
        request = MeasureRequest(weights, requests, _threads(), _WARM_UP)
        with run.events.progress(f"{system} latency", len(requests) + _WARM_UP, "answers") as progress:
            measured = {"where": "in a process of its own", **measure_alone(request, progress.advance)}
    return replies, measured


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


async def _ask(run: Run, system: str, task: Task, questions: Sequence[Question], ledger: Ledger) -> tuple[list[Reply], dict[str, Any]]:
    weights = local_weights(run, system)
    batch_size = run.spec.generation.batch_size
    model = load_teacher(run.spec.teacher, run.spec.generation) if system == TEACHER or weights is None else load_local(weights, batch_size)
    try:
        with run.events.progress(f"{system} answers", len(questions), "answers") as progress:
            replies = await ask_questions(model, task, questions, ledger, max_new_tokens=task.max_new_tokens, progress=progress)
        measured = await _measure_here(run, system, model, _latency_requests(run, task, questions)) if weights is None else {}
    finally:
        await model.close()
    return replies, measured


async def _measure_here(run: Run, system: str, model: Model, requests: Sequence[Request]) -> dict[str, Any]:
    with run.events.progress(f"{system} latency", len(requests) + _WARM_UP, "answers") as progress:
        timing = await time_answers(model, requests, warm_up=_WARM_UP, on_answer=progress.advance)
    return {"where": "in this process" if isinstance(model, EchoModel) else "over the wire", **timing, **profile_memory(model)}


def _latency_requests(run: Run, task: Task, questions: Sequence[Question]) -> tuple[Request, ...]:
    """Questions for the clock, evenly spaced over the test split: the same for each system."""
    count = min(run.spec.evaluation.latency_rows, len(questions))
    chosen = [questions[index * len(questions) // count] for index in range(count)]
    return tuple(greedy_requests(chosen, task.max_new_tokens))


def _threads() -> int:
    import torch

    return torch.get_num_threads()

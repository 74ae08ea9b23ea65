"""A model's figures on test rows, by the names that people ask for."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from potstill.data.dataset import load_dataset
from potstill.data.labels import load_labels
from potstill.errors import DataError, SpecError
from potstill.evaluation.latency import Timing, time_answers
from potstill.evaluation.predict import Reply, ask_questions, build_questions, greedy_requests
from potstill.evaluation.resampling import Bootstrap
from potstill.evaluation.score import compare_to_references, require_references
from potstill.jobs.entities import EvaluationRequest, RegisteredModel
from potstill.jobs.guess import guess_task
from potstill.jobs.records import read_record
from potstill.jobs.translate import task_type
from potstill.models.base import Model
from potstill.models.load import load_local, load_model
from potstill.records import Example
from potstill.spec import TaskSpec, WeightsSpec
from potstill.store.events import EventLog
from potstill.store.ledger import Ledger
from potstill.store.run import Run
from potstill.tasks import build_task
from potstill.tasks.base import Task
from potstill.tasks.metrics import build_metric, canonical_name

TIMINGS = {
    "inference_time": "p50_s",
    "inference_time_p95": "p95_s",
    "inference_time_mean": "mean_s",
    "tokens_per_second": "tokens_per_s",
}
"""Names of what is timed, answers asked one by one: seconds an answer (the median; the 95th percentile; the mean), and the rate of
writing (of a local model, after the first token)."""
TIMED_ROWS = 12
_QUICK = Bootstrap(resamples=100)  # figures alone are asked for here; intervals are the report's

Result = TypeVar("Result")


@dataclass(frozen=True)
class Scored:
    """What a model is scored as: its task, and the labels where it has a closed set."""

    task: Task
    labels: tuple[str, ...]

    @classmethod
    def of(cls, spec: TaskSpec, labels: Sequence[str] = ()) -> Scored:
        """The task of a spec; `labels` where the spec takes them from data."""
        known = tuple(spec.labels or labels)
        return cls(build_task(spec, known), known)

    @property
    def default_metrics(self) -> tuple[str, ...]:
        """Accuracy, what fits the task, and the time an answer takes."""
        return tuple(dict.fromkeys(["accuracy", *self.task.metrics, "inference_time"]))


def evaluate_registered(model: RegisteredModel, job_folder: Path, wanted: EvaluationRequest) -> dict[str, float]:
    """Figures of a model that a job left, on the job's own task."""
    spec = read_record(job_folder).run_spec(job_folder)
    scored = Scored.of(spec.task, load_labels(Run(spec, job_folder, EventLog())))
    check_names(wanted.metrics, scored)
    rows = load_dataset(wanted.test_data, spec.data.columns, conversation=spec.task.type == "conversation")
    student = spec.student
    weights = WeightsSpec(model=str(model.path), trust_remote_code=student.trust_remote_code, dtype=student.dtype, device=student.device)
    return score_names(load_local(weights, spec.generation.batch_size), scored, rows, wanted.metrics)


def evaluate_unregistered(wanted: EvaluationRequest) -> dict[str, float]:
    """Figures of any model: a catalogue name, a hub id, a path. The task is told, or read off the rows."""
    kind = None if wanted.task_type is None else task_type(wanted.task_type)
    rows = load_dataset(wanted.test_data, conversation=kind == "conversation")
    scored = Scored.of(*task_of(rows, kind))
    check_names(wanted.metrics, scored)
    return score_names(load_model(wanted.model_name), scored, rows, wanted.metrics)


def task_of(rows: Sequence[Example], kind: str | None = None) -> tuple[TaskSpec, tuple[str, ...]]:
    """The task of `rows`, of the `kind` that is told or else guessed, and its labels: the references of the rows."""
    if kind is None:
        spec = guess_task(rows)
        return spec, spec.labels or ()
    known = task_type(kind)
    if known != "nli":
        return TaskSpec(type=known), ()
    labels = tuple(sorted({reference for row in rows for reference in row.reference}))
    if len(labels) < 2:
        raise DataError(f"an nli task needs two labels or more, but the rows' references name {len(labels)}; add references")
    return TaskSpec(type="nli", labels=labels), labels


def _require_some_label(scored: Scored, rows: Sequence[Example]) -> None:
    """A label set that fits no row is a mistake, not a model that knows nothing."""
    given = {reference for row in rows for question in scored.task.expand(row) for reference in question.reference}
    if scored.labels and given and given.isdisjoint(scored.labels):
        raise DataError(
            f"none of the rows' references is one of the labels {', '.join(scored.labels)}; the rows have {', '.join(sorted(given)[:5])}"
        )


def score_names(model: Model, scored: Scored, rows: Sequence[Example], names: Sequence[str] | None) -> dict[str, float]:
    """The figures that `names` ask for (None: the default ones), each under its own name.

    `accuracy` is the share of answers that equal an acceptable reference, letter case and white space aside; in math, that have its
    value. Other metrics are those of `potstill.tasks.metrics` and their aliases: shares, but BLEU and chrF in points of 100.
    Timings take the first 12 rows. Raises SpecError for unknown names, DataError without rows or references.
    """
    wanted = tuple(names) if names is not None else scored.default_metrics
    check_names(wanted, scored)
    _require_some_label(scored, rows)
    asked = [ask_row(row, scored.task.type) for row in rows]
    metrics = {name: _metric_name(name, scored) for name in wanted if name not in TIMINGS}
    timings = [name for name in wanted if name in TIMINGS]
    found: dict[str, float] = {}
    if metrics:
        figures = score_answers(model, scored, asked, tuple(metrics.values()))
        found |= {name: figures[metric] for name, metric in metrics.items()}
    if timings:
        timed = time_rows(model, scored.task, asked[:TIMED_ROWS])
        found |= {name: float(timed[TIMINGS[name]]) for name in timings}
    return {name: found[name] for name in wanted}


def score_answers(model: Model, scored: Scored, rows: Sequence[Example], metrics: Sequence[str]) -> dict[str, float]:
    """Ask a model the questions of `rows`, greedily, and score its answers by `metrics`, names of `potstill.tasks.metrics`."""
    built = [build_metric(name, scored.labels) for name in dict.fromkeys(metrics)]
    questions = build_questions(scored.task, rows)
    require_references(questions, built)

    def ask() -> list[Reply]:
        with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
            asking = ask_questions(model, scored.task, questions, ledger)
            return asyncio.run(_then_hang_up(model, asking))

    compared = compare_to_references(built, questions, {model.name: outside_any_loop(ask)}, _QUICK)
    return {name: score.value for name, score in compared.scores[model.name].items()}


def time_rows(model: Model, task: Task, rows: Sequence[Example]) -> Timing:
    """Seconds an answer and tokens a second, each question asked alone; the keys are those of `evaluation.latency`."""
    requests = greedy_requests(task, build_questions(task, rows))
    return outside_any_loop(lambda: asyncio.run(_then_hang_up(model, time_answers(model, requests, warm_up=1))))


def ask_row(row: Example, kind: str) -> Example:
    """A row as a task of this kind asks it: an answer that generation put at its end is taken off, and serves where a reference lacks."""
    if kind == "conversation" or not row.trained_turns or row.messages[-1].role != "assistant":
        return row
    answer = row.messages[-1].content
    return replace(row, messages=row.messages[:-1], trained_turns=(), reference=row.reference or (answer,))


async def _then_hang_up(model: Model, work: Coroutine[Any, Any, Result]) -> Result:
    # An endpoint's connections belong to this loop, and it opens others when it is asked again; a local model would lose its weights.
    try:
        return await work
    finally:
        if not model.capabilities.logits:
            await model.close()


def outside_any_loop(work: Callable[[], Result]) -> Result:
    """What `work` returns, run in a thread of its own where this one runs an event loop already, as notebooks do."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    with ThreadPoolExecutor(max_workers=1) as threads:
        return threads.submit(work).result()


def _metric_name(name: str, scored: Scored) -> str:
    canonical = canonical_name(name, scored.labels)
    return "math_accuracy" if canonical == "accuracy" and scored.task.type == "math" else canonical


def check_names(names: Sequence[str] | None, scored: Scored) -> None:
    """Raises SpecError for a name that neither a metric nor a timing has."""
    for name in names or ():
        if name in TIMINGS:
            continue
        try:
            canonical_name(name, scored.labels)
        except SpecError as error:
            raise SpecError(f"{error}; and of time: {', '.join(TIMINGS)}") from None

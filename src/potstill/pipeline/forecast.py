"""How long stages will take, before they begin: from the rows, the sizes of the models, and how fast this machine multiplies now."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from potstill.data.labels import load_labels
from potstill.data.splits import open_split
from potstill.errors import PotstillError
from potstill.models.folder import count_parameters, read_config
from potstill.models.load import weights_of
from potstill.models.locate import is_local, locate
from potstill.spec import RunSpec, WeightsSpec
from potstill.store.atomic import read_object
from potstill.store.events import StageName
from potstill.store.run import Run
from potstill.tasks import build_task

_SAMPLE_ROWS = 200
_CHARACTERS_A_TOKEN = 4.0
_TEMPLATE_TOKENS = 20  # what a chat template puts around a question and its answer
# Weights that pass through the processor a second where one answer is written alone; 2.4e9 to 3.0e9 were measured on two cores.
_WEIGHTS_A_SECOND_ALONE = 2.5e9
_PROCESS_SECONDS = 5.0  # to start one, and load a model
_MATRIX, _TRIES, _TRY_SECONDS = 1024, 4, 0.05


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be done: `rows` of each split, tokens `read` and `written` a row, weights of `teacher` and `student`."""

    rows: Mapping[str, int]
    read: float
    written: float
    teacher: float
    student: float


def forecast(run: Run, stages: Sequence[StageName]) -> dict[StageName, float]:
    """Seconds that each of `stages` takes, roughly; the data stage stands already.

    Empty where nobody can know: an endpoint answers at its own pace, an accelerator at one that was not measured, or a model's size
    is not on record.
    """
    try:
        load = _load_of(run) if is_local(run.spec.teacher) else None
    except (PotstillError, OSError):
        return {}  # the stage itself will say it in its own words
    speed = _multiplications_a_second() if load is not None else None
    if load is None or speed is None:
        return {}
    seconds = stage_seconds(run.spec, load, speed)
    return {stage: seconds[stage] for stage in stages}


def stage_seconds(spec: RunSpec, load: Load, speed: float) -> dict[StageName, float]:
    """Seconds of each stage where this machine does `speed` floating-point operations a second.

    Two operations a weight and token to read or write it, six to learn from it, and two of a live teacher.
    """
    tokens = load.read + load.written
    live = load.teacher if spec.training.objective != "sft" else 0.0
    learning = ((6 + 2 * spec.training.rollouts_a_row) * load.student + 2 * live) * tokens * load.rows["train"] * spec.training.epochs
    choosing = 2 * load.student * tokens * min(spec.training.validation_rows, load.rows["validation"]) * spec.training.evaluations
    evaluating = sum(_examining(spec, load, load.teacher if name == "teacher" else load.student, speed) for name in spec.evaluation.systems)
    asking = 2 * load.teacher * tokens * load.rows["train"]
    return {"data": 0.0, "generate": asking / speed, "train": (learning + choosing) / speed, "evaluate": evaluating, "report": 0.0}


def _examining(spec: RunSpec, load: Load, weights: float, speed: float) -> float:
    together = 2 * weights * (load.read + load.written) * load.rows["test"] / speed
    alone = weights * load.written * (min(spec.evaluation.latency_rows, load.rows["test"]) + 1) / _WEIGHTS_A_SECOND_ALONE
    return together + alone + _PROCESS_SECONDS


def _load_of(run: Run) -> Load | None:
    teacher = _size(weights_of(run.spec.teacher))
    origin = _size(run.spec.student) if run.spec.student.model is not None else teacher
    if teacher is None or origin is None:
        return None
    carve = run.spec.student.carve
    share = 1.0 if carve is None else min(1.0, carve.layers / origin.layers)
    read, written = _tokens_a_row(run)
    rows = read_object(run.path("data", "manifest.json"), "rows")["rows"]
    return Load(rows, read, written, teacher.weights, origin.weights * share)


@dataclass(frozen=True, slots=True)
class _Size:
    weights: float
    layers: int


def _size(weights: WeightsSpec) -> _Size | None:
    folder = locate(weights)
    if not folder.is_dir():
        return None
    config = read_config(folder)
    layers = (config.get("text_config") or config).get("num_hidden_layers")
    return _Size(float(count_parameters(folder)), layers) if isinstance(layers, int) and layers > 0 else None


def _tokens_a_row(run: Run) -> tuple[float, float]:
    """Tokens read and written for a row, all its turns together: by the characters of the first training rows.

    Answers are taken to be as long as the references, else as the task allows.
    """
    task = build_task(run.spec.task, load_labels(run))
    rows = list(islice(open_split(run, "train", "forecast"), _SAMPLE_ROWS))
    read = written = 0.0
    for question in (question for row in rows for question in task.expand(row)):
        messages = task.render(question) or question.messages
        read += _TEMPLATE_TOKENS + sum(len(message.content) for message in messages) / _CHARACTERS_A_TOKEN
        known = [len(reference) / _CHARACTERS_A_TOKEN for reference in question.reference]
        written += min(max(known, default=float("inf")), task.max_new_tokens)
    return read / len(rows), written / len(rows)


def _multiplications_a_second() -> float | None:
    """Operations a second in products of float32 matrices, the best of a few short tries; None beside an accelerator."""
    try:
        import torch
    except ModuleNotFoundError:
        return None
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        return None
    matrix = torch.ones(_MATRIX, _MATRIX)  # no random numbers: those belong to the run's seed
    best = 0.0
    for _ in range(_TRIES):
        started, products = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - started) < _TRY_SECONDS:
            torch.mm(matrix, matrix)
            products += 1
        best = max(best, 2 * _MATRIX**3 * products / elapsed)
    return best

"""How long stages will take, before they begin: from the rows, the sizes of the models, and how fast this machine multiplies now."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from potstill.data.labels import load_labels
from potstill.data.splits import open_split
from potstill.errors import PotstillError
from potstill.models.locate import is_local
from potstill.pipeline.estimate import (
    Bill,
    Machine,
    adapting_seconds,
    bill_of,
    latency_bill,
    measure_split,
    student_parameters,
    throughput_seconds,
    told_bill,
    told_tokens,
    training_seconds,
)
from potstill.spec import RunSpec
from potstill.spec.sections import Auto, Precision
from potstill.store.atomic import read_object
from potstill.store.events import StageName
from potstill.store.run import Run
from potstill.tasks import build_task
from potstill.training.foresee import foresee

if TYPE_CHECKING:
    import torch

_PROCESS_SECONDS = 5.0  # to start one, and load a model
_ROUNDED_SHARE = 0.7  # of bfloat16's speed is left with what is not rounded around it (0.68 was measured)
_MATRIX, _TRIES, _TRY_SECONDS = 1024, 4, 0.05


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be done: the questions of each split (of `validation`, those that are asked at a time), the weights of the models."""

    train: Bill
    validation: Bill
    test: Bill
    teacher: float
    student: float
    told: int = 0
    """Tokens that the teacher's prompting adds to each of its questions."""


def forecast(run: Run, stages: Sequence[StageName]) -> dict[StageName, float]:
    """Seconds that each of `stages` takes, roughly; the data stage stands already.

    Empty where nobody can know: an endpoint answers at its own pace, an accelerator at one that was not measured, or a model's size
    is not on record.
    """
    try:
        load = _load_of(run) if is_local(run.spec.teacher) else None
    except (PotstillError, OSError):
        return {}  # the stage itself will say it in its own words
    machine = _measured_machine(run.spec.training.precision) if load is not None else None
    if load is None or machine is None:
        return {}
    seconds = stage_seconds(run.spec, load, machine)
    return {stage: seconds[stage] for stage in stages}


def stage_seconds(spec: RunSpec, load: Load, machine: Machine) -> dict[StageName, float]:
    """Seconds of each stage on a machine."""
    plain = spec.training.compare_with_sft and spec.training.objective != "sft"
    learning = training_seconds(spec, load.train, load.student, load.teacher, machine)
    choosing = machine.asking(load.validation, load.student) * spec.training.evaluations * (1 + plain)
    # Of another local model nothing is known here: it is taken to be like the student. An endpoint's pace nobody knows.
    others = [other.key for other in spec.evaluation.compare if other.run is not None or (other.model and is_local(other.model))]
    systems = (*spec.evaluation.systems, *["sft"] * plain, *others)
    return {
        "data": 0.0,
        "adapt": adapting_seconds(spec, load.train, load.validation, load.teacher, machine),
        "generate": machine.asking(told_bill(spec.generation.prompting, load.train, load.told), load.teacher),
        "train": learning + choosing,
        "evaluate": sum(_examining(spec, load, name, machine) for name in systems),
        "report": 0.0,
    }


def _examining(spec: RunSpec, load: Load, system: str, machine: Machine) -> float:
    weights, asked, steps = load.student, load.test, 1
    if system == "teacher":
        weights = load.teacher
        if spec.examined_as_taught:
            asked = told_bill(spec.generation.prompting, load.test, load.told)
            steps = asked.calls // max(load.test.calls, 1)
    clock = machine.timing(latency_bill(spec, asked, steps), weights) + throughput_seconds(spec, asked, weights, machine, steps)
    return machine.asking(asked, weights) + clock + _PROCESS_SECONDS


def _load_of(run: Run) -> Load | None:
    models = foresee(run.spec)
    teacher = models.teacher.parameters if models.teacher is not None else None
    student = student_parameters(run.spec, models.origin) if models.origin is not None else None
    if models.teacher is None or teacher is None or student is None:
        return None
    rows = open_split(run, "train", "forecast")
    task, tokenizer = build_task(run.spec.task, load_labels(run)), models.teacher.tokenizer
    train = bill_of(measure_split(rows, task, tokenizer))
    counts = read_object(run.path("data", "manifest.json"), "rows")["rows"]
    # The test rows are sealed, so the others are taken to be like the training rows.
    validation = train.times(min(run.spec.training.validation_rows, counts["validation"]) / len(rows))
    told = told_tokens(run.spec, task, rows, tokenizer)
    return Load(train, validation, train.times(counts["test"] / len(rows)), teacher, student, told)


def _measured_machine(precision: Precision | Auto) -> Machine | None:
    """This machine at its best of a few short tries; None beside an accelerator."""
    try:
        import torch
    except ModuleNotFoundError:
        return None
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        return None
    from potstill.models.products import fast_products

    plain = _speed(torch.float32)
    with fast_products():
        training = _speed(torch.float32)
    if precision != "float32":
        training = max(training, _ROUNDED_SHARE * _speed(torch.bfloat16))
    return Machine(plain, training)


def _speed(dtype: torch.dtype) -> float:
    """Operations a second in products of matrices of this format."""
    import torch

    matrix = torch.ones(_MATRIX, _MATRIX, dtype=dtype)  # no random numbers: those belong to the run's seed
    best = 0.0
    for _ in range(_TRIES):
        started, products = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - started) < _TRY_SECONDS:
            torch.mm(matrix, matrix)
            products += 1
        best = max(best, 2 * _MATRIX**3 * products / elapsed)
    return best

"""How long stages will take, before they begin: from the rows, the sizes of the models, and how fast this machine multiplies now."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

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
    training_seconds,
)
from potstill.spec import RunSpec
from potstill.store.atomic import read_object
from potstill.store.events import StageName
from potstill.store.run import Run
from potstill.tasks import build_task
from potstill.training.foresee import foresee

_PROCESS_SECONDS = 5.0  # to start one, and load a model
_MATRIX, _TRIES, _TRY_SECONDS = 1024, 4, 0.05


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be done: the questions of each split (of `validation`, those that are asked at a time), the weights of the models."""

    train: Bill
    validation: Bill
    test: Bill
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
    machine = _measured_machine() if load is not None else None
    if load is None or machine is None:
        return {}
    seconds = stage_seconds(run.spec, load, machine)
    return {stage: seconds[stage] for stage in stages}


def stage_seconds(spec: RunSpec, load: Load, machine: Machine) -> dict[StageName, float]:
    """Seconds of each stage on a machine."""
    plain = spec.training.compare_with_sft and spec.training.objective != "sft"
    learning = training_seconds(spec, load.train, load.student, load.teacher, machine)
    choosing = machine.asking(load.validation, load.student) * spec.training.evaluations * (1 + plain)
    weights = {"teacher": load.teacher}
    systems = (*spec.evaluation.systems, *["sft"] * plain)
    return {
        "data": 0.0,
        "adapt": adapting_seconds(spec, load.train, load.validation, load.teacher, machine),
        "generate": machine.asking(load.train, load.teacher),
        "train": learning + choosing,
        "evaluate": sum(_examining(spec, load, weights.get(name, load.student), machine) for name in systems),
        "report": 0.0,
    }


def _examining(spec: RunSpec, load: Load, weights: float, machine: Machine) -> float:
    clock = machine.timing(latency_bill(spec, load.test), weights) + throughput_seconds(spec, load.test, weights, machine)
    return machine.asking(load.test, weights) + clock + _PROCESS_SECONDS


def _load_of(run: Run) -> Load | None:
    models = foresee(run.spec)
    teacher = models.teacher.parameters if models.teacher is not None else None
    student = student_parameters(run.spec, models.origin) if models.origin is not None else None
    if models.teacher is None or teacher is None or student is None:
        return None
    rows = open_split(run, "train", "forecast")
    train = bill_of(measure_split(rows, build_task(run.spec.task, load_labels(run)), models.teacher.tokenizer))
    counts = read_object(run.path("data", "manifest.json"), "rows")["rows"]
    # The test rows are sealed, so the others are taken to be like the training rows.
    validation = train.times(min(run.spec.training.validation_rows, counts["validation"]) / len(rows))
    return Load(train, validation, train.times(counts["test"] / len(rows)), teacher, student)


def _measured_machine() -> Machine | None:
    """This machine at its best of a few short tries; None beside an accelerator."""
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
    return Machine(best)

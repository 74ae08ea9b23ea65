"""What a run will take: calls, tokens, dollars, time. Measured on a sample of the rows, so a million of them do not take minutes."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from potstill.cli.fit import LocalModel, count_tokens
from potstill.records import Example, Message
from potstill.spec import PriceSpec, RunSpec
from potstill.tasks.base import Task

SAMPLE_ROWS = 1_000
# Arithmetic in float32 that a core does a second in products of matrices; 115e9 were measured on two cores (AMD EPYC).
_FLOPS_A_CORE = 50e9


@dataclass(frozen=True)
class SplitSize:
    """A split in tokens: the `questions` that it asks, tokens `read` and `written` by them all.

    `lengths` are those of the rows looked at, prompt and answer together. `counted` says that answers were measured on the
    references; else they are taken to be as long as the task allows.
    """

    questions: int
    read: int
    written: int
    lengths: tuple[int, ...]
    counted: bool


def measure_split(rows: Sequence[Example], task: Task, reader: LocalModel | None) -> SplitSize:
    """Questions and tokens of a split, scaled up from at most 1,000 evenly spaced rows; `reader` is whose tokens count."""
    sample = sample_rows(rows)
    sizes: list[tuple[int, int]] = []
    lengths, counted = [], True
    for row in sample:
        asked = [_question_size(question, task, reader) for question in task.expand(row)]
        counted = counted and all(known for *_, known in asked)
        sizes += [(prompt, answer) for prompt, answer, _ in asked]
        lengths.append(max((prompt + answer for prompt, answer, _ in asked), default=0))
    scale = len(rows) / max(len(sample), 1)
    return SplitSize(
        questions=round(len(sizes) * scale),
        read=round(sum(prompt for prompt, _ in sizes) * scale),
        written=round(sum(answer for _, answer in sizes) * scale),
        lengths=tuple(lengths),
        counted=counted,
    )


def _question_size(question: Example, task: Task, reader: LocalModel | None) -> tuple[int, int, bool]:
    """Tokens of the prompt and of the answer, and whether a reference tells the latter."""
    tokenizer = reader.tokenizer if reader is not None else None
    prompt = count_tokens(tokenizer, task.render(question) or question.messages)
    answers = [count_tokens(tokenizer, [Message("assistant", gold)]) for gold in question.reference]
    return prompt, min(max(answers, default=task.max_new_tokens), task.max_new_tokens), bool(answers)


def sample_rows(rows: Sequence[Example]) -> list[Example]:
    """At most 1,000 rows, evenly spaced."""
    if len(rows) <= SAMPLE_ROWS:
        return list(rows)
    return [rows[index * len(rows) // SAMPLE_ROWS] for index in range(SAMPLE_ROWS)]


@dataclass(frozen=True)
class Bill:
    """What the teacher is asked for in the whole run, evaluation included; `counted` as in SplitSize."""

    calls: int
    read: int
    written: int
    counted: bool

    def dollars(self, price: PriceSpec | None) -> float | None:
        """What it costs; None where the price is unknown."""
        if price is None or price.input_per_million is None or price.output_per_million is None:
            return None
        return (self.read * price.input_per_million + self.written * price.output_per_million) / 1e6


def teacher_bill(spec: RunSpec, sizes: dict[str, SplitSize], *, validation_asked: bool) -> Bill:
    """The teacher's share: training rows, validation rows where those lack references, and test rows where it is evaluated."""
    asked = [sizes["train"]]
    if validation_asked:
        asked.append(sizes["validation"])
    if "teacher" in spec.evaluation.systems:
        asked.append(sizes["test"])
    return Bill(
        calls=sum(size.questions for size in asked),
        read=sum(size.read for size in asked),
        written=sum(size.written for size in asked),
        counted=all(size.counted for size in asked),
    )


def asking_seconds(bill: Bill, teacher: LocalModel) -> float | None:
    """Seconds that a local teacher takes on this machine's processors: two operations a weight and token; None on accelerators."""
    if teacher.parameters is None or _has_accelerator():
        return None
    return 2 * teacher.parameters * (bill.read + bill.written) / _machine_flops()


def training_seconds(spec: RunSpec, train: SplitSize, student: float | None, teacher: float | None) -> float | None:
    """Seconds of training on this machine's processors: six operations a weight and token, and two a weight of a live teacher.

    None where the student's size is unknown, or an accelerator does the work.
    """
    if student is None or _has_accelerator():
        return None
    return (6 * student + 2 * (teacher or 0.0)) * (train.read + train.written) * spec.training.epochs / _machine_flops()


def student_parameters(spec: RunSpec, origin: LocalModel) -> float | None:
    """How many weights the student has, at most: a carved one keeps its share of the layers, and all of the vocabulary."""
    if spec.student.carve is None or origin.parameters is None or not origin.layers:
        return origin.parameters
    return origin.parameters * min(1.0, spec.student.carve.layers / origin.layers)


def _machine_flops() -> float:
    return _FLOPS_A_CORE * (os.cpu_count() or 1)


def _has_accelerator() -> bool:
    # torch would know for certain, but takes longer to import than all the rest.
    return shutil.which("nvidia-smi") is not None or (sys.platform == "darwin" and platform.machine() == "arm64")

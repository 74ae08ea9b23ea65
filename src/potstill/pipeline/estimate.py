"""What models are asked, and how long this machine takes. Measured on a sample of the rows, so a million of them do not take minutes."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from potstill.evaluation.levels import LONGEST_S, affordable_levels, level_size, local_levels
from potstill.models.look_up import LocalModel
from potstill.records import Example, Message
from potstill.spec import PromptingSpec, RunSpec, TeacherSpec
from potstill.tasks.base import Task
from potstill.tasks.prompting import build_strategy
from potstill.tasks.prompting.examples import choose_examples
from potstill.training.settings import targets_kind

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SAMPLE_ROWS = 1_000
CHARACTERS_A_TOKEN = 4.0
"""The usual rule for English text, where no tokenizer is at hand."""
TOKENS_A_MESSAGE = 5
"""What chat templates put around a message, roughly."""
# Arithmetic in float32 that a core does a second in products of matrices; 115e9 were measured on two cores (AMD EPYC).
_FLOPS_A_CORE = 50e9
# In those of training, which are oneDNN's; 400e9 were measured there.
_TRAINING_FLOPS_A_CORE = 150e9
# Weights that pass through the processor a second when one answer is written alone; 2.4e9 to 3.0e9 were measured on two cores.
_WEIGHTS_ALONE = 2.5e9
_WARM_UP = 1
"""Answers before the clock runs, for each system."""


def count_tokens(tokenizer: Tokenizer | None, messages: Iterable[Message]) -> int:
    """Tokens of a chat, with a few a message for the template; a quarter of the characters where there is no tokenizer."""
    texts = [message.content for message in messages]
    if tokenizer is None:
        inside = sum(len(text) for text in texts) / CHARACTERS_A_TOKEN
    else:
        inside = sum(len(found.ids) for found in tokenizer.encode_batch(texts, add_special_tokens=False))
    return round(inside) + TOKENS_A_MESSAGE * len(texts)


@dataclass(frozen=True)
class SplitSize:
    """A split in tokens: the `questions` that it asks, tokens `read` and `written` by them all.

    `lengths` are those of the rows looked at, prompt and known answer together; `longest` with answers as long as the task allows where
    none is known.
    """

    questions: int
    read: int
    written: int
    lengths: tuple[int, ...]
    longest: tuple[int, ...]


def measure_split(rows: Sequence[Example], task: Task, tokenizer: Tokenizer | None) -> SplitSize:
    """Questions and tokens of a split, scaled up from at most 1,000 evenly spaced rows; `tokenizer` is whose tokens count."""
    sample = sample_rows(rows)
    asked = [[_question_size(question, task, tokenizer) for question in task.expand(row)] for row in sample]
    sizes = [size for of_row in asked for size in of_row]
    scale = len(rows) / max(len(sample), 1)
    return SplitSize(
        questions=round(len(sizes) * scale),
        read=round(sum(prompt for prompt, _ in sizes) * scale),
        written=round(sum(_longest(answer, task) for _, answer in sizes) * scale),
        lengths=tuple(max((prompt + (answer or 0) for prompt, answer in of_row), default=0) for of_row in asked),
        longest=tuple(max((prompt + _longest(answer, task) for prompt, answer in of_row), default=0) for of_row in asked),
    )


def _question_size(question: Example, task: Task, tokenizer: Tokenizer | None) -> tuple[int, int | None]:
    """Tokens of the prompt, and of the answer where a reference tells."""
    prompt = count_tokens(tokenizer, task.render(question) or question.messages)
    answers = [count_tokens(tokenizer, [Message("assistant", gold)]) for gold in question.reference]
    return prompt, min(max(answers), task.max_new_tokens) if answers else None


def _longest(answer: int | None, task: Task) -> int:
    return task.max_new_tokens if answer is None else answer


def sample_rows(rows: Sequence[Example]) -> list[Example]:
    """At most 1,000 rows, evenly spaced."""
    if len(rows) <= SAMPLE_ROWS:
        return list(rows)
    return [rows[index * len(rows) // SAMPLE_ROWS] for index in range(SAMPLE_ROWS)]


@dataclass(frozen=True, slots=True)
class Bill:
    """What a model is asked for: calls, tokens read and written."""

    calls: int = 0
    read: int = 0
    written: int = 0

    def __add__(self, other: Bill) -> Bill:
        return Bill(self.calls + other.calls, self.read + other.read, self.written + other.written)

    @property
    def tokens(self) -> int:
        """Read and written."""
        return self.read + self.written

    def times(self, share: float) -> Bill:
        """So many times of it, rounded."""
        return Bill(round(self.calls * share), round(self.read * share), round(self.written * share))


def bill_of(size: SplitSize) -> Bill:
    """All questions of a split, asked once."""
    return Bill(size.questions, size.read, size.written)


def told_bill(prompting: PromptingSpec, bill: Bill, told: int = 0) -> Bill:
    """A bill of plain questions as the teacher has it, whose prompting adds `told` tokens to each, room for reasons, or rounds."""
    calls, read, written = bill.calls, bill.read + told * bill.calls, bill.written
    if prompting.strategy == "chain_of_thought":
        written += calls * prompting.reasoning_tokens // 2
    if prompting.strategy == "chain_of_density":
        # Each round reads those before it again.
        rounds = prompting.rounds
        calls, read, written = calls * rounds, read * rounds + written * (rounds * (rounds - 1) // 2), written * rounds
    return Bill(calls, read, written)


def told_tokens(spec: RunSpec, task: Task, rows: Iterable[Example], tokenizer: Tokenizer | None) -> int:
    """Tokens of what stands besides in each question to the teacher: the worked examples, and its own instruction.

    Raises DataError where the rows do not give the examples.
    """
    prompting = spec.generation.prompting
    strategy = build_strategy(prompting, task.schema)
    worked = choose_examples(prompting.examples, strategy, task, rows)[: prompting.examples]
    words = [turn for example in worked for turn in example.turns]
    return count_tokens(tokenizer, [*words, *([Message("system", strategy.words)] if strategy.words else [])])


def latency_bill(spec: RunSpec, test: Bill, steps: int = 1) -> Bill:
    """The test questions that a system is asked once more, one by one, for the clock, each in so many calls."""
    calls = min(spec.evaluation.latency_rows * steps, test.calls) + _WARM_UP
    share = calls / max(test.calls, 1)
    return Bill(calls, round(test.read * share), round(test.written * share))


def throughput_bill(spec: RunSpec, endpoint: TeacherSpec, test: Bill, steps: int = 1) -> Bill:
    """The test questions that an endpoint is asked once more, several at once, each in so many calls of about so many tokens as all."""
    likely = -(-test.tokens // max(test.calls, 1))
    levels = affordable_levels(spec, endpoint, likely, steps)
    calls = steps * sum(level_size(level, spec.evaluation.throughput_rows) for level in levels)
    share = calls / max(test.calls, 1)
    return Bill(calls, round(test.read * share), round(test.written * share))


def throughput_seconds(spec: RunSpec, test: Bill, weights: float, machine: Machine, steps: int = 1) -> float:
    """Seconds that a local model's throughput takes to measure: arithmetic or memory, whichever is waited for, up to a level's end; each
    question is asked in so many calls."""
    seconds = 0.0
    for level in local_levels(spec):
        size = level_size(level, spec.evaluation.throughput_rows)
        bill = test.times(size * steps / max(test.calls, 1))
        whole = max(machine.asking(bill, weights), machine.timing(bill, weights) / level)
        seconds += min(whole, LONGEST_S + whole * level / size)
    return seconds


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine's processors: operations a second (`speed`) in products of float32 matrices, and in those that training takes."""

    speed: float
    training_speed: float

    def asking(self, bill: Bill, weights: float) -> float:
        """Seconds that a local model takes for answers in batches: two operations a weight and token."""
        return 2 * weights * bill.tokens / self.speed

    def timing(self, bill: Bill, weights: float) -> float:
        """Seconds that a local model takes for answers one by one: then memory, not arithmetic, is what is waited for."""
        return weights * bill.written / _WEIGHTS_ALONE

    def training(self, bill: Bill, epochs: float, student: float, rollouts_a_row: float = 0.0) -> float:
        """Seconds of training: six operations a weight and token, and two where the student writes itself."""
        return (6 + 2 * rollouts_a_row) * student * bill.tokens * epochs / self.training_speed


def training_seconds(spec: RunSpec, bill: Bill, student: float, teacher: float, machine: Machine) -> float:
    """Seconds of training a student of so many weights; a teacher whose probabilities are learnt (0: none) reads in every epoch, or once
    where they are cached."""
    by_text = spec.training.objective == "sft"
    readings = 0.0 if by_text else spec.training.epochs if targets_kind(spec) == "live" else 1.0
    students = 2 if spec.training.compare_with_sft and not by_text else 1
    rollouts = spec.training.rollouts_a_row
    return students * machine.training(bill, spec.training.epochs, student, rollouts) + readings * machine.asking(bill, teacher)


def adapting_seconds(spec: RunSpec, train: Bill, validation: Bill, teacher: float, machine: Machine) -> float:
    """Seconds of adapting a teacher; of the training rows all are gold, or as many as it takes. `validation` is one answer to each row that
    it is measured on."""
    adapt = spec.teacher.adapt
    if adapt is None:
        return 0.0
    gold = train if adapt.rows is None else train.times(min(1.0, adapt.rows / max(train.calls, 1)))
    return machine.training(gold, adapt.epochs, teacher) + (adapt.evaluations + 1) * machine.asking(validation, teacher)


def assumed_machine() -> Machine | None:
    """This machine at the usual speed of its cores; None where an accelerator does the work."""
    # torch would know for certain, but takes longer to import than all the rest.
    if shutil.which("nvidia-smi") is not None or (sys.platform == "darwin" and platform.machine() == "arm64"):
        return None
    cores = os.cpu_count() or 1
    return Machine(_FLOPS_A_CORE * cores, _TRAINING_FLOPS_A_CORE * cores)


def student_parameters(spec: RunSpec, origin: LocalModel) -> float | None:
    """How many weights the student has, at most: a carved one keeps its share of the layers, and all of the vocabulary."""
    if spec.student.carve is None or origin.parameters is None or not origin.layers:
        return origin.parameters
    return origin.parameters * min(1.0, spec.student.carve.layers / origin.layers)

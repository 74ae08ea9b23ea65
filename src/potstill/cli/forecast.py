"""What a run will take, in lines for people: calls, price, time."""

from __future__ import annotations

from dataclasses import dataclass

from potstill.cli.estimate import (
    Bill,
    SplitSize,
    Teaching,
    asking_seconds,
    bill_of,
    latency_bill,
    student_parameters,
    timing_seconds,
    training_seconds,
)
from potstill.models.load import endpoint_of
from potstill.models.look_up import LocalModel
from potstill.spec import RunSpec


@dataclass(frozen=True)
class Forecast:
    """A run by its models: `teacher` is None for an endpoint, which took `call_seconds` (None: not asked) to answer one tiny question."""

    spec: RunSpec
    teacher: LocalModel | None
    student: LocalModel | None
    call_seconds: float | None

    def facts(self, sizes: dict[str, SplitSize], teaching: Teaching) -> list[tuple[str, str]]:
        """Titled lines."""
        bill = teaching.whole
        most = "" if bill.counted else "at most "
        lines = [("calls", f"about {bill.calls:,} to the teacher, {bill.read:,} tokens read, {most}{bill.written:,} written")]
        if self.teacher is None:
            lines.append(("price", self._price_text(bill)))
        return [*lines, ("time", self._time_text(sizes, teaching))]

    def _price_text(self, bill: Bill) -> str:
        endpoint = endpoint_of(self.spec.teacher)
        if endpoint.base_url is None:
            return "nothing: the echo is free"
        dollars = bill.dollars(endpoint.price)
        if dollars is None:
            return f"unknown: nobody says what {endpoint.model} costs; give `teacher.price` to have it estimated"
        return f"{'about' if bill.counted else 'at most about'} ${dollars:,.2f}"

    def _time_text(self, sizes: dict[str, SplitSize], teaching: Teaching) -> str:
        asking = self._teacher_seconds(teaching.generating, Bill())
        # Endpoints slow down under load, and their answers are longer than that to one tiny question.
        least = "at least " if self.teacher is None and asking is not None else ""
        training = self._training_seconds(sizes["train"])
        evaluating = self._evaluating_seconds(sizes["test"], teaching)
        parts = f"asking {least}{_seconds_text(asking)}", f"training {_seconds_text(training)}", f"evaluating {_seconds_text(evaluating)}"
        return ", ".join(parts)

    def _teacher_seconds(self, together: Bill, alone: Bill) -> float | None:
        if self.teacher is not None:
            return _answering_seconds(self.teacher.parameters, together, alone)
        if self.call_seconds is None:
            return None
        return (together.calls / self.spec.generation.concurrency + alone.calls) * self.call_seconds

    def _student_parameters(self) -> float | None:
        return None if self.student is None else student_parameters(self.spec, self.student)

    def _training_seconds(self, train: SplitSize) -> float | None:
        live = self.teacher if self.spec.training.objective != "sft" else None
        return training_seconds(self.spec, train, self._student_parameters(), live.parameters if live is not None else None)

    def _evaluating_seconds(self, test: SplitSize, teaching: Teaching) -> float | None:
        total = 0.0
        for system in self.spec.evaluation.systems:
            if system == "teacher":
                seconds = self._teacher_seconds(teaching.evaluated, teaching.timed)
            else:
                seconds = _answering_seconds(self._student_parameters(), bill_of(test), latency_bill(self.spec, test))
            if seconds is None:
                return None
            total += seconds
        return total


def _answering_seconds(parameters: float | None, together: Bill, alone: Bill) -> float | None:
    """Seconds of a local model that answers in batches, and some questions once more one by one."""
    in_batches, one_by_one = asking_seconds(together, parameters), timing_seconds(alone, parameters)
    return None if in_batches is None or one_by_one is None else in_batches + one_by_one


def _seconds_text(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    for size, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= size:
            return f"about {seconds / size:,.1f} {unit}"
    return f"about {max(seconds, 1):.0f} s"

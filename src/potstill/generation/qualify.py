"""A teacher's examination before it teaches: its score on validation rows with references, else whether it agrees with itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from potstill.errors import ModelError
from potstill.generation.asking import ask_rows, rows_of
from potstill.generation.interview import Interview
from potstill.models.budget import Budget
from potstill.models.talk import Seat
from potstill.records import Example
from potstill.spec.sections import GatesSpec, QualifySpec
from potstill.store.atomic import fingerprint
from potstill.store.events import EventLog
from potstill.tasks.metrics import Metric, Prediction, build_metric

_RESAMPLES = 2_000
_TEMPERATURE = 0.7
"""Asked again, a teacher is asked at this temperature at least: greedily it could not but repeat itself."""
_OTHER_SEED = 1_000_003
_NO_GATES = GatesSpec(format=False, refusal=False, truncation=False, verifier=False, contamination=False)
AGREEMENT = "agreement"


@dataclass(frozen=True, slots=True)
class Grade:
    """What one teacher scored over n questions, with the 95 % bootstrap interval; `what` names the metric, or is `agreement`."""

    teacher: str
    what: str
    value: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, Any]:
        """As `qualification.json` holds it."""
        return {"teacher": self.teacher, "what": self.what, "value": self.value, "low": self.low, "high": self.high, "n": self.n}

    def __str__(self) -> str:
        return f"{self.teacher}: {self.what} {self.value:.3f} [{self.low:.3f}, {self.high:.3f}], {self.n} questions"


@dataclass(frozen=True, slots=True)
class Examination:
    """The teachers of an interview, examined on the same rows; `labels` are those of the task's metrics."""

    interview: Interview
    labels: Sequence[str]
    log: EventLog
    budget: Budget

    def qualify(self, validation: Sequence[Example], spec: QualifySpec) -> list[Grade]:
        """Examine every teacher. Raises ModelError where one is below the spec's threshold; nothing more is asked then."""
        rows = _drawn(validation, spec.rows)
        grades = [self._grade(seat, rows) for seat in self.interview.teachers]
        for grade in grades:
            self.log.info(f"qualification: {grade}")
            key = "min_agreement" if grade.what == AGREEMENT else "min_score"
            threshold: float | None = getattr(spec, key)
            if threshold is not None and grade.value < threshold:
                raise ModelError(
                    f"{grade}: below `generation.qualify.{key}` ({threshold:g}), so no training row was asked. Take another teacher, "
                    "another prompt, or a lower threshold"
                )
        return grades

    def _grade(self, seat: Seat, rows: Sequence[Example]) -> Grade:
        task = self.interview.task
        known = [row for row in rows if task.expand(row)[-1].reference]
        if not known:
            return self._agreement(seat, rows)
        metric = build_metric(task.metrics[0], self.labels)
        answers = zip(self._answers(seat, known), known, strict=True)
        return _bootstrap(seat.title, metric.title, metric, [Prediction(said, task.expand(row)[-1].reference) for said, row in answers])

    def _agreement(self, seat: Seat, rows: Sequence[Example]) -> Grade:
        """How the answers agree with those to the same questions, asked again in another order, with other samples drawn."""
        warm = replace(seat, sampling=replace(seat.sampling, temperature=max(seat.sampling.temperature, _TEMPERATURE)))
        other = replace(warm, sampling=replace(warm.sampling, seed=warm.sampling.seed + _OTHER_SEED))
        first = self._answers(warm, rows)
        shuffled = sorted(rows, key=lambda row: fingerprint(["again", row.id]))
        again = dict(zip((row.id for row in shuffled), self._answers(other, shuffled), strict=True))
        pairs = [(again[row.id], said) for row, said in zip(rows, first, strict=True) if said is not None]
        if not pairs:
            raise ModelError(f"{seat.title}: none of its {len(rows)} answers on validation rows can be parsed, so it cannot be examined")
        metric = build_metric(self.interview.task.agreement, self.labels)
        return _bootstrap(seat.title, AGREEMENT, metric, [Prediction(answer, (said,)) for answer, said in pairs])

    def _answers(self, seat: Seat, rows: Sequence[Example]) -> list[str | None]:
        """The parsed answer to each row's last question; None where there is none. What a gate would drop is wrong here."""
        plain = self.interview.generation.model_copy(update={"samples": 1, "choose": "first", "route": "weight", "turns": "last"})
        alone = Interview(
            self.interview.task, (seat,), self.interview.ledger, generation=plain, gates=_NO_GATES, examples=self.interview.examples
        )
        ask_rows(alone, rows_of(rows), len(rows), self.log, budget=self.budget, title=f"examining {seat.title}")
        outcomes = [alone.outcome(row) for row in rows]
        said = [found.answered[-1].chosen.candidates[0].text if found is not None and found.answered else "" for found in outcomes]
        return [self.interview.task.parse(text) if text else None for text in said]


def _drawn(rows: Sequence[Example], count: int) -> list[Example]:
    """Evenly spaced rows."""
    few = min(count, len(rows))
    return [rows[index * len(rows) // few] for index in range(few)]


def _bootstrap(teacher: str, what: str, metric: Metric, predictions: Sequence[Prediction]) -> Grade:
    statistics = metric.statistics(predictions)
    draws = np.random.default_rng(0).multinomial(len(statistics), [1 / len(statistics)] * len(statistics), size=_RESAMPLES)
    low, high = np.percentile(metric.value(draws @ statistics), [2.5, 97.5])
    return Grade(teacher, what, float(metric.value(statistics.sum(axis=0))), float(low), float(high), len(predictions))

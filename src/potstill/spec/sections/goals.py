"""What the student shall reach, and how the run says whether it did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from potstill.spec.sections.base import Section
from potstill.verdicts import AGREEMENT, Goal, Unit


class GoalSpec(Section):
    """What a figure shall be at least: a number, or `at_least` with a `margin`."""

    at_least: float
    """In the figure's own unit."""
    margin: float = Field(default=0.0, ge=0.0)
    """So much less is as good (the non-inferiority margin): passed is where the whole interval lies above `at_least` − `margin`."""

    @model_validator(mode="before")
    @classmethod
    def _a_number_alone(cls, raw: object) -> object:
        if isinstance(raw, dict | GoalSpec):
            return raw
        if isinstance(raw, int | float) and not isinstance(raw, bool):
            return {"at_least": raw}
        raise ValueError(f"expected a number, or {{at_least: 0.92, margin: 0.01}} (found {raw!r})")


def _or_a_number(schema: dict[str, Any]) -> None:
    """Editors take the bare number, too."""
    schema["anyOf"] = [{"type": "number"}, *schema.get("anyOf", [{"$ref": schema.pop("$ref", "")}])]


_Wish = Annotated[GoalSpec | None, Field(json_schema_extra=_or_a_number)]
_SHARES = ("retention", "gap_recovered")
_REDUCTIONS = ("latency_reduction", "memory_reduction", "cost_reduction")


class GoalsSpec(Section):
    """What the student shall reach. Each goal is a number, or `{at_least, margin}`; the report says pass, fail or inconclusive to each."""

    retention: _Wish = None
    """Share of the teacher's score that the student keeps, in the first metric: 0.92 for 92 %."""
    scores: dict[str, Annotated[GoalSpec, Field(json_schema_extra=_or_a_number)]] = Field(default={})
    """The student's own scores, by the name of the metric (`{accuracy: 0.85}`): shares, but BLEU and chrF in points of 100."""
    gain: _Wish = None
    """The student's score less that of the untrained student, in the first metric and its unit."""
    gap_recovered: _Wish = None
    """Share of the gap between the untrained student and the teacher that training closed, in the first metric."""
    over_sft: _Wish = None
    """The student's score less that of the plain one beside it (`training.compare_with_sft`), in the first metric: 0 for no worse."""
    agreement: _Wish = None
    """How far the student's answers are its teacher's, in the metric of the task type that compares the two."""
    latency_reduction: _Wish = None
    """1 − the student's median time for an answer ÷ the teacher's: 0.85 for 85 % less time."""
    memory_reduction: _Wish = None
    """1 − the student's peak memory ÷ the teacher's, above the empty process: 0.95 for a twentieth of it."""
    cost_reduction: _Wish = None
    """1 − dollars for 1,000 requests to the student ÷ dollars for 1,000 to the teacher: 0.6 for 60 % less."""
    concurrent_users: _Wish = None
    """How many times as many users the student serves as its teacher, nobody waiting longer than with the teacher one at a time (its p95):
    requests a second at the level of `evaluation.concurrency` that suits each best. 10 for ten times as many."""

    @field_validator(*_SHARES, *_REDUCTIONS)
    @classmethod
    def _is_a_share(cls, wish: GoalSpec | None, info: Any) -> GoalSpec | None:
        if wish is not None and info.field_name in _REDUCTIONS and wish.at_least >= 1:
            raise ValueError(f"is a share below 1, as 0.85 for 85 % less (found {wish.at_least:g})")
        if wish is not None and not -2 < wish.at_least <= 2:
            raise ValueError(f"is a share, as 0.92 for 92 % (found {wish.at_least:g})")
        return wish

    def quality(self) -> tuple[Goal, ...]:
        """Goals that the answers to the test rows decide."""
        named: list[tuple[str, GoalSpec | None, str, Unit]] = [
            ("retention", self.retention, "what the student keeps of its teacher", "share"),
            ("gain", self.gain, "gain over the untrained student", "score"),
            ("gap_recovered", self.gap_recovered, "share of the gap to the teacher that is closed", "share"),
            ("over_sft", self.over_sft, "gain over plain fine-tuning", "score"),
            (AGREEMENT, self.agreement, "agreement with the teacher", "score"),
            *((name, wish, name, "score") for name, wish in self.scores.items()),
        ]
        return _set(named)

    def misfits(self, metrics: Sequence[str]) -> list[str]:
        """What is wished for in a metric that is none of those that are taken."""
        return [
            f"`goals.scores.{name}`: is none of the metrics that are taken ({', '.join(metrics)}); add it to `evaluation.metrics`"
            for name in self.scores
            if name not in metrics
        ]

    def measured(self) -> tuple[Goal, ...]:
        """Goals that time, memory and money decide."""
        return _set(
            [
                ("latency_reduction", self.latency_reduction, "time saved by the median answer", "share"),
                ("memory_reduction", self.memory_reduction, "memory saved", "share"),
                ("cost_reduction", self.cost_reduction, "cost saved", "share"),
                ("concurrent_users", self.concurrent_users, "number of users at once, as a multiple of its teacher's,", "times"),
            ]
        )


def _set(named: list[tuple[str, GoalSpec | None, str, Unit]]) -> tuple[Goal, ...]:
    return tuple(Goal(name, wish.at_least, wish.margin, title, unit) for name, wish, title, unit in named if wish is not None)

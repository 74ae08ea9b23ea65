"""How the student is compared."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from potstill.spec.sections.base import Auto, Section


class EvaluationSpec(Section):
    """How teacher, baseline and student are compared."""

    metrics: Annotated[tuple[str, ...], Field(min_length=1)] | Auto = "auto"
    """Names of metrics; `auto`: those of the task type."""
    systems: tuple[Literal["teacher", "baseline", "student"], ...] = Field(default=("teacher", "baseline", "student"), min_length=1)
    """Who is measured."""
    teacher_prompting: Literal["as_taught", "plain"] = "as_taught"
    """How the teacher is asked the test questions: with the instruction, the worked examples and the room for reasons of
    `generation.prompting`, as when it taught, or `plain`, as the student is asked. Greedy and once either way."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    """Level of the intervals."""
    resamples: int = Field(default=10_000, ge=100)
    """Bootstrap resamples (10,000: Efron & Tibshirani 1993, §13)."""
    latency_rows: int = Field(default=12, ge=1)
    """Test rows answered one by one to measure latency."""

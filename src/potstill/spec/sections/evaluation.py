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
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    """Level of the intervals."""
    resamples: int = Field(default=10_000, ge=100)
    """Bootstrap resamples (10,000: Efron & Tibshirani 1993, §13)."""
    latency_rows: int = Field(default=12, ge=1)
    """Test rows answered one by one to measure latency."""
    concurrency: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = (1, 2, 4, 8, 16)
    """Requests in flight where throughput is measured, each a level; `[]` leaves it out. A local model ends a level with the batch in which
    three seconds have passed. An endpoint has the levels up to `generation.concurrency` that fit into its rates of one minute, and into the
    budget."""
    throughput_rows: int = Field(default=16, ge=1)
    """Requests of each of those levels, and as many more as make whole batches; of an endpoint that is what a level costs. One request in
    flight is what `latency_rows` measure already."""

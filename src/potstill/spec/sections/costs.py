"""What machine time costs, and how many requests the student will have."""

from __future__ import annotations

from pydantic import Field, model_validator

from potstill.spec.sections.base import Section


class CostsSpec(Section):
    """What the report counts costs with: dollars of machine time, and your volume."""

    machine_per_hour: float | None = Field(default=None, ge=0.0)
    """Dollars for an hour of this machine: what the run takes of it, and local models that answer on it. 0 where it costs you nothing;
    without it those costs are unknown. A teacher's own `price` goes first."""
    always_on: bool = False
    """The machine is paid round the clock, whether it answers or not. By default an hour counts for as much as it can answer, as where the
    machine is shared, or stopped when idle."""
    requests_per_day: float | None = Field(default=None, gt=0.0)
    """Requests a day: in how many days distillation pays for itself, and, with `always_on`, how much of the machine is used."""

    @model_validator(mode="after")
    def _idle_time_needs_a_volume(self) -> CostsSpec:
        if self.always_on and (self.requests_per_day is None or self.machine_per_hour is None):
            raise ValueError("`always_on` shares out a machine's day among its requests: give `machine_per_hour` and `requests_per_day`")
        return self

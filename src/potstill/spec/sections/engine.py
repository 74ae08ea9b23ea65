"""Where the work is done."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from potstill.spec.sections.base import Section


class EngineSpec(Section):
    """Where the teachers are asked from: `local`, `ray`, or `kind` with its settings. What comes out is the same."""

    kind: Literal["local", "ray"] = "local"
    """`local`: this process. `ray`: workers on a Ray cluster, each with its share of the rows, the rates and the budget; every node must
    see the run folder under one path."""
    address: str | None = None
    """Of a Ray cluster that runs: `auto` is the one that this machine belongs to, else `host:port` of its head. Absent: one is
    started on this machine for the run."""
    workers: int = Field(default=2, ge=1, le=512)
    """How many processes ask on a Ray cluster; fewer where a share of the rates would be less than a call."""
    cpus: float = Field(default=1.0, ge=0.0)
    """Processors that Ray sets aside for a worker."""
    gpus: float = Field(default=0.0, ge=0.0)
    """Accelerators that Ray sets aside for a worker, for local teachers."""

    @model_validator(mode="before")
    @classmethod
    def _one_word(cls, raw: object) -> object:
        return {"kind": raw} if isinstance(raw, str) else raw

    @field_validator("address")
    @classmethod
    def _of_a_head(cls, address: str | None) -> str | None:
        if address is not None and re.fullmatch(r"auto|[^\s/]+:\d{1,5}", address) is None:
            raise ValueError(
                f"expected `auto`, or `host:port` of the cluster's head (found {address!r}); where only `ray://` leads there, run Potstill "
                "on a machine of the cluster, with `auto`"
            )
        return address

    @model_validator(mode="after")
    def _settings_belong_to_ray(self) -> EngineSpec:
        stray = [name for name in sorted(self.model_fields_set - {"kind"}) if getattr(self, name) != type(self).model_fields[name].default]
        if self.kind == "local" and stray:
            raise ValueError(f"`{stray[0]}` belongs to the engine `ray`: add `kind: ray`, or remove it")
        return self


def or_one_word(schema: dict[str, Any]) -> None:
    """Editors complete the word, too."""
    schema["anyOf"] = [{"enum": ["local", "ray"]}, {"$ref": schema.pop("$ref")}]

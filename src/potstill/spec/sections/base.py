"""What every section of a spec is, and the kinds of value that several have."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Precision = Literal["float32", "bfloat16"]
"""A number format that products of matrices are computed in."""
Auto = Literal["auto"]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]


class Section(BaseModel):
    """Base of every section: unknown keys are refused, numbers are finite, nothing changes after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_sections_are_their_defaults(cls, raw: Any) -> Any:
        """A header over nothing but comments is null in YAML, and means the section as it comes."""
        if not isinstance(raw, dict):
            return raw
        return {name: value for name, value in raw.items() if value is not None or not cls.is_section(name)}

    @classmethod
    def is_section(cls, name: object) -> bool:
        """Whether the field `name` holds a section that is always there."""
        annotation = cls.model_fields[name].annotation if isinstance(name, str) and name in cls.model_fields else None
        return isinstance(annotation, type) and issubclass(annotation, Section)

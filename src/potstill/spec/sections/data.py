"""What is asked, and of which rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from potstill.spec.sections.base import Fraction, Section

TaskType = Literal["nli", "conversation", "qa", "math", "summarization", "translation"]


class TaskSpec(Section):
    """What is asked, and what counts as an answer."""

    type: TaskType
    """The kind of task. `nli` is any closed label set: inference, intent routing, moderation."""
    labels: tuple[str, ...] | None = None
    """The labels of an `nli` task."""
    labels_from: Literal["data"] | None = None
    """`data`: the labels are the references that the training rows carry."""
    answer: Literal["extractive", "open", "choice"] = "extractive"
    """For `qa`: a span of the passage, free text, or the letter of a choice."""
    instruction: str | None = None
    """System prompt for rows that bring none of their own."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Longest answer in tokens, of teacher and student alike, reasons aside; by default the task type's own limit."""
    reasons: bool = False
    """Answers come after reasons, on a last line `Answer: ...`; on where `generation.prompting.learn` is `rationale_then_answer`."""
    reasoning_tokens: int | None = Field(default=None, ge=1)
    """Room for the student's reasons, besides the answer's own; by default the teacher's (`generation.prompting.reasoning_tokens`)."""
    answer_schema: dict[str, Any] | None = None
    """A JSON Schema that answers obey: endpoints are held to it (`response_format`), and the gate `format` drops what breaks it. Local
    models are not held to it. In the evaluation an answer that breaks it is unparsable, and wrong."""

    @field_validator("answer_schema")
    @classmethod
    def _a_schema(cls, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        if schema is not None:
            from jsonschema.exceptions import SchemaError
            from jsonschema.validators import Draft202012Validator, validator_for

            if not isinstance(schema.get("$schema", ""), str):
                raise ValueError("is no JSON Schema: its `$schema` must be text")
            try:
                validator_for(schema, default=Draft202012Validator).check_schema(schema)
            except SchemaError as error:
                raise ValueError(f"is no JSON Schema: {error.message}") from None
        return schema

    @property
    def is_choice(self) -> bool:
        """Whether answers are of a few kinds, which can be counted: labels, or letters of options."""
        return self.type == "nli" or (self.type == "qa" and self.answer == "choice")

    @model_validator(mode="after")
    def _json_stands_alone(self) -> TaskSpec:
        if self.answer_schema is not None and self.reasons:
            raise ValueError(
                "`answer_schema` wants JSON alone, and `reasons` (on where `generation.prompting.learn` is `rationale_then_answer`) puts "
                "words before it: take one of the two"
            )
        return self

    @model_validator(mode="after")
    def _labels_belong_to_nli(self) -> TaskSpec:
        if self.type == "nli":
            if (self.labels is None) == (self.labels_from is None):
                raise ValueError("an nli task needs its labels: give either `labels: [...]` or `labels_from: data`")
        elif self.labels is not None or self.labels_from is not None:
            raise ValueError(f"labels belong to nli tasks, not to {self.type}: remove `labels` and `labels_from`")
        return self


class ColumnsSpec(Section):
    """Which column of a CSV or Parquet file holds what."""

    prompt: str = "prompt"
    """The user's text."""
    completion: str | None = None
    """The gold answer; read as `reference`."""
    system: str | None = None
    """A system prompt of the row's own."""
    id: str | None = None
    """The row's name; by default its number."""
    group: str | None = None
    """Rows of one group stay in one split."""
    rationale: str | None = None
    """Why the gold answer holds."""
    tags: str | None = None
    """Comma-separated tags."""


class DataSpec(Section):
    """The rows. A missing validation or test file is split off the training rows."""

    train: Path
    """JSONL, CSV or Parquet: rows with `messages`, `prompt`/`completion`, or named columns."""
    validation: Path | None = None
    """Rows that choose the best checkpoint."""
    test: Path | None = None
    """Rows that are sealed until the final evaluation."""
    columns: ColumnsSpec = ColumnsSpec()
    """Column names of CSV and Parquet files."""
    validation_fraction: Fraction = 0.1
    """Share of the training rows that is split off where `validation` is missing."""
    test_fraction: Fraction = 0.1
    """Share of the training rows that is split off where `test` is missing."""
    test_duplicates: Literal["auto", "error", "drop", "allow"] = "auto"
    """Training or validation rows that stand in the test split too, exactly or nearly: stop (`error`), leave them out of training and
    validation (`drop`), or keep them (`allow`). `auto`: `error` for a test file of its own, `drop` where the test rows were split off."""
    near_duplicate: float = Field(default=0.8, gt=0.0, le=1.0)
    """Prompts whose three-word shingles are at least this similar (Jaccard) are near duplicates (Lee et al. 2021, arXiv 2107.06499)."""

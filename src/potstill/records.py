"""Frozen data that crosses stages. Nothing here knows of files, models or torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")
FinishReason = Literal["stop", "length", "content_filter", "error"]


@dataclass(frozen=True, slots=True)
class Message:
    """One chat turn."""

    role: Role
    content: str

    def to_json(self) -> dict[str, str]:
        """The turn as chat APIs write it."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Example:
    """One row of data: what is asked, and what is known of the answer.

    `messages` ends with a user turn, except in conversations, where assistant turns stand between the user's.
    `reference` holds the acceptable gold answers (empty: none known). Rows of one `group` never fall into
    different splits, and are resampled together. `trained_turns` names the assistant turns (positions in
    `messages`) that a student learns from; it is filled by generation.
    """

    id: str
    messages: tuple[Message, ...]
    reference: tuple[str, ...] = ()
    rationale: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()
    trained_turns: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The row as `data/*.jsonl` holds it: absent fields are left out."""
        row: dict[str, Any] = {"id": self.id, "messages": [m.to_json() for m in self.messages]}
        if self.reference:
            row["reference"] = list(self.reference)
        if self.rationale is not None:
            row["rationale"] = self.rationale
        if self.group is not None:
            row["group"] = self.group
        if self.tags:
            row["tags"] = list(self.tags)
        if self.trained_turns:
            row["trained_turns"] = list(self.trained_turns)
        return row

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Example:
        """The inverse of `to_json`; for rows that Potstill wrote itself, so nothing is checked."""
        return cls(
            id=row["id"],
            messages=tuple(Message(m["role"], m["content"]) for m in row["messages"]),
            reference=tuple(row.get("reference", ())),
            rationale=row.get("rationale"),
            group=row.get("group"),
            tags=tuple(row.get("tags", ())),
            trained_turns=tuple(row.get("trained_turns", ())),
        )


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn. Temperature 0 is greedy; `seed` matters above it."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model: all messages, how to sample, and which sample of that question this is."""

    messages: tuple[Message, ...]
    sampling: Sampling
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written."""

    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens)


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered. A failed call is data: `finish_reason` "error" with the reason in `error`.

    `latency_s` is seconds from asking to the whole answer; in a batch, that of the batch.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage = field(default_factory=Usage)
    latency_s: float = 0.0
    model: str = ""
    error: str | None = None
    first_token_s: float | None = field(default=None, compare=False)
    """Seconds from asking to the first token; None where the whole answer came at once, or where it is not known."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate says of an answer: keep it or drop it, and why. `version` changes when the gate does."""

    gate: str
    keep: bool
    reason: str = ""
    version: int = 1


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval [low, high] at `confidence`, from `resamples` bootstrap resamples."""

    low: float
    high: float
    confidence: float
    resamples: int


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of one system over n rows; `interval` is None where none was asked for."""

    metric: str
    value: float
    n: int
    interval: Interval | None = None

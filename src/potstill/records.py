"""Frozen data that crosses stages. Nothing here knows of files, models or torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")
FinishReason = Literal["stop", "length", "content_filter", "refusal", "error"]


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
    different splits, and are resampled together.

    Generation fills the rest: `trained_turns` names the assistant turns (positions in `messages`) that a student learns from,
    `teacher` who wrote them, `rounds` the drafts that led to the last one, `distribution` how the votes of several samples fell, or
    how likely a judge finds each label (parsed answer, share; the learnt one first), `source` the row that a written prompt was made from.
    """

    id: str
    messages: tuple[Message, ...]
    reference: tuple[str, ...] = ()
    rationale: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()
    trained_turns: tuple[int, ...] = ()
    teacher: str | None = None
    distribution: tuple[tuple[str, float], ...] = ()
    rounds: tuple[str, ...] = ()
    source: str | None = None

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
        if self.teacher is not None:
            row["teacher"] = self.teacher
        if self.distribution:
            row["distribution"] = dict(self.distribution)
        if self.rounds:
            row["rounds"] = list(self.rounds)
        if self.source is not None:
            row["source"] = self.source
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
            teacher=row.get("teacher"),
            distribution=tuple(row.get("distribution", {}).items()),
            rounds=tuple(row.get("rounds", ())),
            source=row.get("source"),
        )


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn. Temperature 0 is greedy; `seed` matters above it."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int = 0

    def to_json(self) -> dict[str, Any]:
        """All of it by name, a number of one kind always in one form: keys of questions are made of it."""
        return {
            "max_new_tokens": self.max_new_tokens,
            "temperature": float(self.temperature),
            "top_p": float(self.top_p),
            "stop": self.stop,
            "seed": self.seed,
        }


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model: all messages, how to sample, and which sample of that question this is.

    `schema` is a JSON Schema, as canonical JSON text, that the answer shall obey where the model can be held to one. `top_logprobs`
    asks for the log-probabilities of so many tokens a position (0: none). `prompt_logprobs` asks for those of the last message's own
    tokens instead, an assistant's turn that is given and not to be answered. `prompt_version` names the wording that wrote the
    messages, so that an edited prompt is a new question even where it reads the same. `streamed` asks for the answer piece by piece,
    where it comes over the wire, so that its first token can be timed; that makes no other question of it.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    sample: int = 0
    schema: str | None = None
    top_logprobs: int = 0
    prompt_logprobs: int = 0
    prompt_version: str = ""
    streamed: bool = field(default=False, compare=False)


def question_of(request: Request) -> Request:
    """The request less its sample's number: equal for samples of one question."""
    return replace(request, sample=0)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written."""

    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens)


@dataclass(frozen=True, slots=True)
class Cost:
    """Calls, tokens read and written, and dollars (None: the price is unknown)."""

    calls: int = 0
    tokens: int = 0
    dollars: float | None = 0.0

    def __add__(self, other: Cost) -> Cost:
        dollars = None if self.dollars is None or other.dollars is None else self.dollars + other.dollars
        return Cost(self.calls + other.calls, self.tokens + other.tokens, dollars)

    def __sub__(self, other: Cost) -> Cost:
        dollars = None if self.dollars is None or other.dollars is None else self.dollars - other.dollars
        return Cost(self.calls - other.calls, self.tokens - other.tokens, dollars)


FaultKind = Literal["busy", "down", "garbled", "short"]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why asking again may do better than a call that failed.

    `busy`: the endpoint asks to slow down (429, 503). `down`: it failed, or was not reached. `garbled`: something came that was
    no answer. `short`: it did not come in this call, and is asked for at once in another way (by itself, in other words).
    `broken`: where it lasts, the run stops, because no other row would fare better. `charged`: the provider may have charged for
    the call all the same.
    """

    kind: FaultKind
    retry_after_s: float = 0.0
    broken: bool = False
    charged: bool = False


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One written token: its text, its natural log-probability, and those of the likeliest tokens at its place.

    Bytes that are no whole character stand in a text as lone surrogates (`surrogateescape`), where the endpoint tells them.
    """

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered. A failed call is data: `finish_reason` "error" with the reason in `error`.

    `latency_s` is seconds from asking to the whole answer; in a batch, that of the batch. `busy_s` is the answer's share of the
    seconds in which its model was asked, where those are paid for by the hour. `reasoning` is what a thinking model wrote before its
    answer. `fault` tells a failed call that may be tried again. `counted` is False where the endpoint did not say its tokens, so that
    `usage` is an estimate. `raw` is the body as it came (put together, where it came in pieces), for the record; it is not read back.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage = field(default_factory=Usage)
    latency_s: float = 0.0
    model: str = ""
    error: str | None = None
    reasoning: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    counted: bool = field(default=True, compare=False)
    busy_s: float = field(default=0.0, compare=False)
    fault: Fault | None = field(default=None, compare=False)
    raw: str | None = field(default=None, compare=False, repr=False)
    first_token_s: float | None = field(default=None, compare=False)
    """Seconds from asking to the answer's first token; None where the whole answer came at once, or where it is not known."""
    thinking_tokens: int = field(default=0, compare=False)
    """How many of the tokens written came before the answer's first one; told where that one's time is."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate says of an answer: keep it or drop it, and why. `version` changes when the gate does.

    `code` is the reason in a word or two, to count by; a kept answer may have one as well (how leniently it was read). `text`,
    where there is one, is the answer as the gate changed it (personal data masked).
    """

    gate: str
    keep: bool
    reason: str = ""
    version: int = 1
    code: str = ""
    text: str | None = None


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

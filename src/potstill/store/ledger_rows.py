"""Requests and answers as rows of a ledger, and back."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from potstill.records import Completion, Message, Request, Sampling, TokenLogprob, Usage

ANSWER = (
    "text, finish_reason, input_tokens, output_tokens, latency_s, attempt.model, error, reasoning, logprobs, first_token_s, thinking_tokens"
)
"""The columns of an answer that is read back."""


def answer_columns(answer: Completion, now: float) -> tuple[object, ...]:
    """What is recorded of an answer that came now (seconds since 1970): from the attempt's `state` to its `thinking_tokens`."""
    state = "failed" if answer.finish_reason == "error" else "answered"
    tokens = (answer.usage.input_tokens, answer.usage.output_tokens)
    return (
        state,
        now,
        *tokens,
        answer.finish_reason,
        answer.latency_s,
        _storable(answer.error),
        _storable(answer.text),
        _storable(answer.model),
        not answer.counted or (answer.fault is not None and answer.fault.charged),
        answer.fault and answer.fault.kind,
        _storable(answer.reasoning),
        json.dumps([[t.token, t.logprob, t.top] for t in answer.logprobs]) if answer.logprobs else None,
        zlib.compress(answer.raw.encode("utf-8", "replace"), 1) if answer.raw else None,
        answer.first_token_s,
        answer.thinking_tokens,
    )


def completion_of(row: Sequence[Any]) -> Completion:
    """The answer in a row of the columns `ANSWER`."""
    text, finish_reason, read, written, latency_s, model, error, reasoning, logprobs, first_token_s, thinking_tokens = row
    found = json.loads(logprobs) if logprobs else ()
    tokens = tuple(TokenLogprob(token, value, tuple((t, v) for t, v in top)) for token, value, top in found)
    answer = Completion(text, finish_reason, Usage(read, written), latency_s, model, error, reasoning, tokens)
    return replace(answer, first_token_s=first_token_s, thinking_tokens=thinking_tokens)


def _storable(text: str | None) -> str | None:
    """Text without lone surrogates, which JSON may bring and UTF-8 cannot hold."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def request_json(request: Request) -> str:
    """A request as the ledger holds it."""
    row: dict[str, Any] = {
        "messages": [message.to_json() for message in request.messages],
        "sampling": request.sampling.to_json(),
        "sample": request.sample,
    }
    optional = {
        "schema": request.schema,
        "top_logprobs": request.top_logprobs,
        "prompt_logprobs": request.prompt_logprobs,
        "prompt_version": request.prompt_version,
    }
    return json.dumps(row | {name: value for name, value in optional.items() if value})


def request_of(text: str) -> Request:
    """The inverse of `request_json`."""
    row = json.loads(text)
    sampling = row["sampling"] | {"stop": tuple(row["sampling"]["stop"])}
    messages = tuple(Message(turn["role"], turn["content"]) for turn in row["messages"])
    extra = {name: row[name] for name in ("schema", "top_logprobs", "prompt_logprobs", "prompt_version") if name in row}
    return Request(messages, Sampling(**sampling), row["sample"], **extra)


def marks(values: Sequence[object]) -> str:
    """A question mark for each value, as SQL wants them."""
    return ",".join("?" * len(values))

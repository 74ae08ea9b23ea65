"""Questions: the key that each has in the ledger, the batches they are asked in, and what comes of asking them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from potstill.models.base import Model, Remote
from potstill.records import Completion, Request, Usage, question_of
from potstill.store.atomic import fingerprint
from potstill.store.ledger import Ledger

KEY_VERSION = 1


@dataclass(frozen=True, slots=True)
class Question:
    """A request under its key."""

    key: str
    request: Request


@dataclass(frozen=True, slots=True)
class Answers:
    """What asking came to. The texts are in the ledger: `of` finds them, one at a time.

    `asked` calls were made now, `failed` of them with an error; `stood` requests had their answer already, from before or from
    an equal request. `usage` and `dollars` (None: a price is unknown) are those of the calls made now. `passed_over` lines of a
    provider's batch answered nothing that was asked, or what was answered already.
    """

    asked: int
    failed: int
    stood: int
    usage: Usage
    dollars: float | None
    model: Model = dataclasses.field(repr=False)
    ledger: Ledger = dataclasses.field(repr=False)
    passed_over: int = 0

    def of(self, request: Request) -> Completion:
        """The answer to one of the requests that were asked, or its failed call."""
        completion = self.ledger.get(request_key(self.model, request))
        assert completion is not None, "this request was not among those that were asked"
        return completion


@runtime_checkable
class MeasuresLength(Protocol):
    """A model that can say how long a request is, in tokens or anything that grows with them."""

    def length(self, request: Request) -> int:
        """The request's length."""
        ...


def request_key(model: Model, request: Request) -> str:
    """SHA-256 of all that an answer depends on: the model, every message, the sampling, the schema, the sample's number."""
    # What a request need not have is left out where it has none, so that older keys stand.
    optional = {
        "schema": request.schema,
        "top_logprobs": request.top_logprobs,
        "prompt_logprobs": request.prompt_logprobs,
        "prompt_version": request.prompt_version,
    }
    return fingerprint(
        {name: value for name, value in optional.items() if value}
        | {
            "version": KEY_VERSION,
            "identity": model.identity,
            "messages": [(message.role, message.content) for message in request.messages],
            "sampling": request.sampling.to_json(),
            "sample": request.sample,
        }
    )


def plan_batches(model: Model, requests: Sequence[Request]) -> list[list[Question]]:
    """The batches of one window: each question once, longest first, ties by key.

    For a model that takes one question a call: in the given order, samples of one question together where it gives several.
    """
    questions = {key: Question(key, request) for key, request in ((request_key(model, request), request) for request in requests)}
    if model.batch_size == 1:
        return _by_question(list(questions.values()), model.samples_a_call if isinstance(model, Remote) else 1)
    # Longest first: out of memory comes at the start if at all, and the estimate of the time left errs on the safe side.
    length = model.length if isinstance(model, MeasuresLength) else _characters
    ordered = sorted(questions.values(), key=lambda question: (-length(question.request), question.key))
    return [ordered[start : start + model.batch_size] for start in range(0, len(ordered), model.batch_size)]


def _by_question(questions: Sequence[Question], most: int) -> list[list[Question]]:
    if most == 1 or not any(question.request.sample for question in questions):
        return [[question] for question in questions]
    groups: dict[Request, list[Question]] = {}
    for question in questions:
        groups.setdefault(question_of(question.request), []).append(question)
    return [group[start : start + most] for group in groups.values() for start in range(0, len(group), most)]


def _characters(request: Request) -> int:
    return sum(len(message.content) for message in request.messages)

"""The chat-completions wire of OpenAI and those who speak it: what is sent, and what an answer means. No network here."""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from potstill.models.scored_wire import NO_SCORES, read_scores, score_fields
from potstill.records import Completion, Fault, FinishReason, Request, TokenLogprob, Usage

_FINISH: dict[str, FinishReason] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "recitation": "content_filter",
}
_NO_SUCH_MODEL = re.compile(
    r"model\b.{0,80}\b(not found|not exist|unknown|not supported|no access)|(unknown|invalid|no such) model", re.I | re.S
)
_CHARACTERS_A_TOKEN = 4
_TEMPLATE_TOKENS = 32
_SENSELESS = 10**9
_LONGEST_WORDS = 300
_LONGEST_RETRY_AFTER_S = 600.0
STREAMED = {"stream": True, "stream_options": {"include_usage": True}}
"""What a call's body says besides where the answer shall come piece by piece, and the tokens with the last one."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """What an endpoint says of a call that it refuses."""

    words: str
    code: str = ""

    @property
    def names_the_model(self) -> bool:
        """Whether the endpoint does not know the model, or keeps it from this key."""
        return self.code == "model_not_found" or _NO_SUCH_MODEL.search(self.words) is not None

    @property
    def names_the_quota(self) -> bool:
        """Whether the account is out of money: waiting does not help."""
        return self.code in {"insufficient_quota", "billing_hard_limit_reached"}

    @property
    def wants_completion_tokens(self) -> bool:
        """Whether the endpoint calls the limit of new tokens `max_completion_tokens`."""
        return "max_completion_tokens" in self.words

    @property
    def names_streaming(self) -> bool:
        """Whether the endpoint does not stream, or does not take `stream_options`."""
        return re.search(r"\bstream", f"{self.code} {self.words}", re.I) is not None

    @property
    def names_the_content(self) -> bool:
        """Whether a content filter refused the prompt."""
        return self.code in {"content_filter", "content_policy_violation"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """What an endpoint takes: `sampling` parameters, several answers a call (`n`), its name for the limit of new tokens, `STREAMED`."""

    sampling: bool = True
    several: bool = True
    streams: bool = True
    limit: str = "max_tokens"


def payload(model: str, request: Request, dialect: Dialect = Dialect(), count: int = 1) -> dict[str, Any]:
    """The body of a call for `count` answers to one question; a field that says nothing is left out: some endpoints refuse it.

    Samples of one question differ by seed, which counts above temperature 0 only.
    """
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": [message.to_json() for message in request.messages],
        dialect.limit: sampling.max_new_tokens,
    }
    if dialect.sampling:
        body["temperature"] = sampling.temperature
        if sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        if sampling.temperature > 0:
            body["seed"] = sampling.seed + request.sample
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if count > 1:
        body["n"] = count
    if request.schema is not None:
        schema = json.loads(request.schema)
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    if request.top_logprobs:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs}
    if request.prompt_logprobs:
        body |= score_fields(request)
    return body


def read_answers(body: dict[str, Any], request: Request, model: str, count: int = 1) -> list[Completion]:
    """The completions in a call's answer, one a sample asked for, in the order of the choices' `index`.

    What is not an answer (no choice, no text) is one with finish_reason "error"; a sample that did not come is `short`. The tokens
    of a call are shared out by the answers' lengths; those of the prompt count with the first.
    """
    choices = body.get("choices")
    found = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    texts = [text_of(_message(choice).get("content")) for choice in found[:count]]
    usages, counted = _shares(body, request, texts or [""])
    served = str(body.get("model") or model)
    if request.prompt_logprobs:
        return [replace(_scored(body, request, usages[0], served), counted=counted)]
    if not found:
        return [replace(failure("the endpoint answered without a choice", served, usages[0]), counted=counted)] + [_short(served)] * (
            count - 1
        )
    ordered = sorted(zip(found, texts, usages, strict=False), key=lambda part: index_of(part[0]))
    answers = [_read_choice(choice, text, usage, request, served) for choice, text, usage in ordered]
    if not counted:
        answers = [replace(answer, counted=False) for answer in answers]
    return answers + [_short(served)] * (count - len(answers))


def _read_choice(choice: dict[str, Any], text: str, usage: Usage, request: Request, served: str) -> Completion:
    message, said = choice.get("message"), str(choice.get("finish_reason")).lower()
    if not isinstance(message, dict):
        return failure("the endpoint answered without a choice", served, usage)
    if said == "error" or choice.get("error"):
        words = read_complaint(json.dumps({"error": choice.get("error") or "the endpoint broke off"})).words
        return failure(f"broke off in the middle of the answer: {words}", served, usage, Fault("garbled", charged=True))
    reason = _FINISH.get(said, "stop")
    reasoning = text_of(message.get("reasoning_content") or message.get("reasoning")).strip() or None
    refusal = message.get("refusal")
    if refusal and not text.strip():
        return Completion(str(refusal), "refusal", usage, model=served, reasoning=reasoning)
    if text.strip():
        return Completion(text, reason, usage, model=served, reasoning=reasoning, logprobs=_logprobs(choice))
    if reason == "content_filter":
        return Completion("", "content_filter", usage, model=served, error="a content filter took the answer")
    if reason == "length":
        why = f"the answer is empty: all {request.sampling.max_new_tokens} tokens went into thinking; raise `task.max_new_tokens`"
        return failure(why, served, usage)
    return failure("the answer is empty", served, usage)


def _scored(body: dict[str, Any], request: Request, usage: Usage, served: str) -> Completion:
    tokens = read_scores(body, request.messages[-1].content)
    if tokens is None:
        return failure(NO_SCORES, served, usage)
    return Completion("", "stop", usage, model=served, logprobs=tokens)


def _message(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice.get("message")
    return message if isinstance(message, dict) else {}


def index_of(choice: dict[str, Any]) -> int:
    """The place of a choice among those of its call."""
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _short(model: str) -> Completion:
    return failure("the endpoint gave fewer answers than it was asked for", model, Usage(), Fault("short"))


def _logprobs(choice: dict[str, Any]) -> tuple[TokenLogprob, ...]:
    """The written tokens' log-probabilities; empty where the endpoint gives none, or in a shape that is not OpenAI's."""
    found = choice.get("logprobs")
    content = found.get("content") if isinstance(found, dict) else None
    if not isinstance(content, list):
        return ()
    try:
        return tuple(
            TokenLogprob(
                _token(place),
                float(place["logprob"]),
                tuple((_token(other), float(other["logprob"])) for other in place.get("top_logprobs") or ()),
            )
            for place in content
        )
    except (KeyError, TypeError, ValueError):
        return ()


def _token(place: dict[str, Any]) -> str:
    """A token's text by its bytes, where they are told: half a character has no text of its own."""
    told = place.get("bytes")
    if not isinstance(told, list):
        return str(place["token"])
    return bytes(told).decode("utf-8", "surrogateescape")


def read_complaint(text: str) -> Complaint:
    """What an error body says, whichever of the usual shapes it has; HTML and other texts are cut short."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return Complaint(_plain(text))
    if isinstance(body, list) and body:
        body = body[0]
    if not isinstance(body, dict):
        return Complaint(_plain(text))
    error = body.get("error", body)
    if not isinstance(error, dict):
        return Complaint(_plain(str(error)), str(body.get("code") or ""))
    words = error.get("message") or error.get("detail") or error.get("msg") or json.dumps(error, ensure_ascii=False)
    inner = error.get("innererror")
    code = inner.get("code") if isinstance(inner, dict) and inner.get("code") else error.get("code") or error.get("type")
    return Complaint(_plain(words if isinstance(words, str) else json.dumps(words)), str(code or "").lower())


def looks_like_html(text: str) -> bool:
    """Whether a body is a web page: an address without its /v1, or a proxy in between."""
    return text.lstrip()[:200].lower().startswith(("<!doctype html", "<html", "<head", "<body"))


def failure(reason: str, model: str, usage: Usage | None = None, fault: Fault | None = None) -> Completion:
    """A call that failed: data, with its reason, and, where another attempt may do better, its fault."""
    return Completion("", "error", usage or Usage(), model=model, error=reason, fault=fault)


def text_of(content: object) -> str:
    """The text of a message's content: a string, or parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def likely_tokens(request: Request) -> int:
    """About how many tokens a request's prompt has."""
    # Four characters a token: about right for English in the usual tokenizers.
    return -(-sum(len(message.content) for message in request.messages) // _CHARACTERS_A_TOKEN)


def most_tokens(request: Request) -> int:
    """More tokens than a request can cost: none is shorter than a byte, and templates add a few a message."""
    prompt = sum(len(message.content.encode("utf-8", "replace")) for message in request.messages)
    schema = len(request.schema or "")
    return prompt + schema + _TEMPLATE_TOKENS * (len(request.messages) + 2) + request.sampling.max_new_tokens


def _shares(body: dict[str, Any], request: Request, texts: list[str]) -> tuple[list[Usage], bool]:
    """Each answer's share of the call's tokens, and whether the endpoint said how many they are."""
    said = body.get("usage")
    said = said if isinstance(said, dict) else {}
    read, written = _count(said.get("prompt_tokens")), _count(said.get("completion_tokens"))
    lengths = [len(text) for text in texts]
    if written is None:
        shares = [-(-length // _CHARACTERS_A_TOKEN) for length in lengths]
    else:
        # Cut where the running total rounds, so that the shares add up.
        whole = sum(lengths) or 1
        ends = [round(written * sum(lengths[: n + 1]) / whole) for n in range(len(lengths))] if sum(lengths) else [written] * len(lengths)
        shares = [end - before for end, before in zip(ends, [0, *ends], strict=False)]
    prompt = likely_tokens(request) if read is None else read
    usages = [Usage(prompt if place == 0 else 0, share) for place, share in enumerate(shares)]
    return usages, read is not None and written is not None


def thinking_tokens(body: dict[str, Any], answer: Completion) -> int:
    """How many of an answer's tokens were spent on thinking: as the endpoint says, else by the lengths of what was thought and said."""
    usage = body.get("usage")
    details = usage.get("completion_tokens_details") if isinstance(usage, dict) else None
    said = _count(details.get("reasoning_tokens")) if isinstance(details, dict) else None
    written = answer.usage.output_tokens
    if said:
        # More than were written: this endpoint counts them apart.
        return said if said <= written else 0
    thought = len(answer.reasoning or "")
    return round(written * thought / (thought + len(answer.text))) if thought else 0


def retry_after_s(headers: Mapping[str, str]) -> float:
    """How many seconds an endpoint asks to be left alone, by its `Retry-After`: a number, or a date."""
    said = headers.get("Retry-After", "").strip()
    try:
        seconds = float(said)
    except ValueError:
        seconds = _seconds_until(said)
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S)


def _seconds_until(date: str) -> float:
    try:
        then = email.utils.parsedate_tz(date)
        return email.utils.mktime_tz(then) - time.time() if then else 0.0
    except (ValueError, OverflowError):
        return 0.0


def _count(said: object) -> int | None:
    """A number of tokens as an endpoint says it; None for what cannot be one (negative, a truth value, beyond all sense)."""
    return said if isinstance(said, int) and not isinstance(said, bool) and 0 <= said < _SENSELESS else None


def _plain(text: str) -> str:
    if looks_like_html(text):
        title = re.search(r"<title>(.*?)</title>", text, re.I | re.S)
        text = f"a web page{f' titled {title.group(1).strip()!r}' if title else ''}"
    words = " ".join(text.encode("utf-8", "replace").decode().split())
    return words if len(words) <= _LONGEST_WORDS else words[: _LONGEST_WORDS - 1] + "…"

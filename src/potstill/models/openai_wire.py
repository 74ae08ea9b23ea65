"""The chat-completions wire of OpenAI and those who speak it: what is sent, and what an answer means. No network here."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from potstill.records import Completion, FinishReason, Request, Usage

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
_LONGEST_WORDS = 300


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
    def names_the_content(self) -> bool:
        """Whether a content filter refused the prompt."""
        return self.code in {"content_filter", "content_policy_violation"}


def payload(model: str, request: Request, *, takes_sampling: bool = True) -> dict[str, Any]:
    """The body of a call; a field that says nothing is left out, because some endpoints refuse it.

    Samples of one question differ by seed, which counts above temperature 0 only.
    """
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": model,
        "messages": [message.to_json() for message in request.messages],
        "max_tokens": sampling.max_new_tokens,
    }
    if takes_sampling:
        body["temperature"] = sampling.temperature
    if takes_sampling and sampling.top_p < 1:
        body["top_p"] = sampling.top_p
    if takes_sampling and sampling.temperature > 0:
        body["seed"] = sampling.seed + request.sample
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    return body


def read_answer(body: dict[str, Any], request: Request, model: str) -> Completion:
    """The completion in a call's answer; what is not an answer (no choice, no text) is one with finish_reason "error"."""
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return failure("the endpoint answered without a choice", model, _usage(body, request, ""))
    text = _text(message.get("content"))
    reason = _FINISH.get(str(choice.get("finish_reason")).lower(), "stop")
    usage = _usage(body, request, text)
    served = str(body.get("model") or model)
    if text.strip():
        return Completion(text, reason, usage, model=served)
    refusal = message.get("refusal")
    if refusal or reason == "content_filter":
        return Completion(
            str(refusal or ""), "content_filter", usage, model=served, error=None if refusal else "a content filter took the answer"
        )
    if reason == "length":
        why = f"the answer is empty: all {request.sampling.max_new_tokens} tokens went into thinking; raise `task.max_new_tokens`"
        return failure(why, served, usage)
    return failure("the answer is empty", served, usage)


def read_complaint(text: str) -> Complaint:
    """What an error body says, whichever of the usual shapes it has; HTML and other texts are cut short."""
    try:
        body = json.loads(text)
    except ValueError:
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


def failure(reason: str, model: str, usage: Usage | None = None) -> Completion:
    """A call that failed by itself: data, with its reason."""
    return Completion("", "error", usage or Usage(), model=model, error=reason)


def _text(content: object) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _usage(body: dict[str, Any], request: Request, text: str) -> Usage:
    said = body.get("usage")
    said = said if isinstance(said, dict) else {}
    asked = sum(len(message.content) for message in request.messages)
    return Usage(_count(said.get("prompt_tokens"), asked), _count(said.get("completion_tokens"), len(text)))


def _count(said: object, characters: int) -> int:
    # Where nothing is said, four characters a token: about right for English in the usual tokenizers.
    return said if isinstance(said, int) else -(-characters // _CHARACTERS_A_TOKEN)


def _plain(text: str) -> str:
    if looks_like_html(text):
        title = re.search(r"<title>(.*?)</title>", text, re.I | re.S)
        text = f"a web page{f' titled {title.group(1).strip()!r}' if title else ''}"
    words = " ".join(text.split())
    return words if len(words) <= _LONGEST_WORDS else words[: _LONGEST_WORDS - 1] + "…"

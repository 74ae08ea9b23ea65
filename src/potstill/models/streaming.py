"""A streamed answer (server-sent events of chat-completions chunks), put together to the body that an ordinary call has. No network here.

What that body means is the business of `models.openai_wire`, as it is for every other.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from potstill.models.openai_wire import index_of, text_of

_ANSWER = ("content", "refusal", "reasoning_content", "reasoning")
"""The texts of a message: the first one that came at all is the answer, so that thinking is none where something was said."""
_DONE = "[DONE]"
_CUT = "the stream ended before the answer did"
_TORN = "a part of the stream is not JSON"


@dataclass(slots=True)
class _Choice:
    """A choice so far: `said` is what stands beside its message, `texts` are the message's own, in pieces."""

    said: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    logprobs: list[Any] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return self.said.get("finish_reason") not in (None, "error")

    def whole(self, index: int) -> dict[str, Any]:
        message = {"role": "assistant", "content": ""} | {name: "".join(pieces) for name, pieces in self.texts.items()}
        logprobs = {"logprobs": {"content": self.logprobs}} if self.logprobs else {}
        return {"finish_reason": None, **self.said, "index": index, "message": message, **logprobs}


class Stream:
    """Takes the bytes of a reply as they come, however they are cut, each piece with the seconds from asking to it.

    A chunk is one line (`data: {...}`), as all write it who speak this wire.
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._line = b""
        self._head: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self._came_s: dict[str, float] = {}
        self._at_s = 0.0
        self._ended_s: float | None = None
        self._is_stream = self._done = self._torn = False
        self._error: object = None

    def feed(self, piece: bytes, at_s: float) -> None:
        """The next piece, `at_s` seconds after asking."""
        self._pieces.append(piece)
        self._at_s = at_s
        *lines, self._line = (self._line + piece).split(b"\n")
        for line in lines:
            self._take_line(line)

    def text(self) -> str:
        """All that came, as it came."""
        return b"".join(self._pieces).decode("utf-8", "replace")

    def body(self) -> dict[str, Any] | None:
        """The body that an ordinary call would have had, once all has come; None where what came is no stream.

        Where the stream was cut off, is torn, or ends in an error, each choice that this spoilt says so (`error`); an error instead of
        any choice stands as it does in an ordinary body.
        """
        self._take_line(self._line)  # the last line need not end
        self._line = b""
        if not self._is_stream:
            return None
        body = {"object": "chat.completion", **self._head}
        if self._error and not self._choices:
            return {**body, "error": self._error}
        whole = self._done or (bool(self._choices) and all(choice.ended for choice in self._choices.values()))
        why = self._error or (_TORN if self._torn else None if whole else _CUT)
        choices = self._choices or ({0: _Choice()} if why else {})
        for choice in choices.values():
            if why and (self._torn or not choice.ended):
                choice.said["error"] = why
        return {**body, "choices": [choice.whole(index) for index, choice in sorted(choices.items())]}

    def first_s(self, tokens: int) -> float | None:
        """Seconds from asking to the first token of an answer of so many tokens; None where the whole answer came at once."""
        first_s = next((self._came_s[name] for name in _ANSWER if name in self._came_s), None)
        return None if first_s == self._ended_s and tokens > 1 else first_s

    def _take_line(self, line: bytes) -> None:
        name, _, said = line.decode("utf-8", "replace").partition(":")
        said = said.strip()
        if name not in ("data", "error") or not said:
            return
        self._is_stream = True
        if said == _DONE:
            self._done = True
            self._end()
            return
        try:
            chunk = json.loads(said)
        except (ValueError, RecursionError):
            chunk = None
        if not isinstance(chunk, dict):
            self._torn = True
        elif name == "error":  # as older llama.cpp servers tell of one
            self._error = self._error or chunk
        else:
            self._take_chunk(chunk)

    def _take_chunk(self, chunk: dict[str, Any]) -> None:
        self._error = self._error or (chunk if chunk.get("object") == "error" else chunk.get("error"))
        self._head |= {name: value for name, value in chunk.items() if name not in ("choices", "object", "error") and value is not None}
        choices = chunk.get("choices")
        for part in choices if isinstance(choices, list) else ():
            if isinstance(part, dict):
                self._take_part(part)

    def _take_part(self, part: dict[str, Any]) -> None:
        choice = self._choices.setdefault(index_of(part), _Choice())
        beside = ("index", "delta", "message", "logprobs")
        choice.said |= {name: value for name, value in part.items() if name not in beside and value is not None}
        if part.get("finish_reason") is not None:
            self._end()
        delta = part["delta"] if "delta" in part else part.get("message")
        texts = {name: text_of(delta.get(name)) for name in _ANSWER} if isinstance(delta, dict) else {}
        for name, text in texts.items():
            if text:
                choice.texts.setdefault(name, []).append(text)
                self._came_s.setdefault(name, self._at_s)
        logprobs = part.get("logprobs")
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            choice.logprobs += logprobs["content"]

    def _end(self) -> None:
        if self._ended_s is None:
            self._ended_s = self._at_s

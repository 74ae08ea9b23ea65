"""How the test server streams an answer: server-sent events, in the shapes that endpoints give their chunks."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

Payload = dict[str, Any]
Chunks = Callable[[Payload, Payload], list[Payload]]
"""The chunks of an answer: the call's payload and the body that an ordinary call would get."""
Change = Callable[[list[str]], list[str]]
"""What is made of the events of an answer before they are sent."""
DONE = "data: [DONE]\n\n"
_TEXTS = ("reasoning", "reasoning_content", "content", "refusal")
_PIECES = re.compile(r"\s*\S+|\s+$")


def openai_chunks(payload: Payload, body: Payload) -> list[Payload]:
    """As OpenAI streams: a first chunk with the role and empty content; usage, where it was asked for, in a last chunk without choices."""
    chunks = _chunks(body, {"role": "assistant", "content": "", "refusal": None})
    if not (payload.get("stream_options") or {}).get("include_usage"):
        return chunks
    return [*({**chunk, "usage": None} for chunk in chunks), {**_head(body), "choices": [], "usage": body.get("usage")}]


def llama_cpp_chunks(_: Payload, body: Payload) -> list[Payload]:
    """As llama.cpp's server streams: the first content is null, and usage and timings come with the last choice, asked for or not."""
    *chunks, last = _chunks(body, {"role": "assistant", "content": None})
    return [*chunks, {**last, "usage": body.get("usage"), "timings": {"prompt_n": 1, "predicted_n": 1}}]


def events(chunks: Sequence[Payload]) -> list[str]:
    """The chunks as events, and the one that ends them."""
    return [*(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks), DONE]


@dataclass(frozen=True, slots=True)
class Streaming:
    """How answers are streamed: in chunks of which shape, with how many seconds before each piece of text."""

    chunks: Chunks = openai_chunks
    between_s: float = 0.0

    async def send(self, request: web.Request, chunks: Sequence[Payload], *, change: Change | None, cut: bool) -> web.StreamResponse:
        """Send the chunks' events as `change` leaves them; `cut`: the connection is then closed without an end of the reply."""
        sent = events(chunks)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        for event in sent if change is None else change(sent):
            if self.between_s and _brings_text(event):
                await asyncio.sleep(self.between_s)
            await response.write(event.encode())
        if cut:
            assert request.transport is not None
            request.transport.close()
        return response


AS_OPENAI_DOES = Streaming()


def _chunks(body: Payload, opening: Payload) -> list[Payload]:
    """One chunk for each word of each choice, between one that opens and one that ends it."""
    found = []
    for choice in body["choices"]:
        message, index = choice["message"], choice["index"]
        deltas = [{name: piece} for name in _TEXTS for piece in _PIECES.findall(message.get(name) or "")]
        found += [_part(index, opening), *(_part(index, delta) for delta in deltas)]
        found.append({**_part(index, {}), "finish_reason": choice["finish_reason"]})
    return [{**_head(body), "choices": [part]} for part in found]


def _part(index: int, delta: Payload) -> Payload:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def _head(body: Payload) -> Payload:
    return {"id": body["id"], "object": "chat.completion.chunk", "created": 0, "model": body["model"]}


def _brings_text(event: str) -> bool:
    return any(f'"{name}": "' in event and f'"{name}": ""' not in event for name in _TEXTS)

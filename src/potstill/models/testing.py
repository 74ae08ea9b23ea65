"""An OpenAI-compatible server in this process, for tests and dry runs: it answers by a function, and misbehaves on demand."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Payload = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """How a call goes wrong: another status or body, late, or with the connection cut in the middle of the body."""

    status: int = 200
    body: str = ""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    cut: bool = False


def refused(status: int, words: str = "no", *, code: str = "", retry_after: str | None = None) -> Fault:
    """An error in OpenAI's shape."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return Fault(status, json.dumps({"error": {"message": words, "code": code or None}}), headers=headers)


def answered(content: str | None, finish_reason: str = "stop", **message: str) -> Fault:
    """An answer with this very content (None, empty), which the stub's function would not give."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish_reason}
    return Fault(body=json.dumps({"model": "stub", "choices": [choice]}))


HTML = Fault(body="<!DOCTYPE html><html><head><title>Welcome</title></head></html>", content_type="text/html")
HALF_A_BODY = Fault(body='{"choices": [{"message": {"role": "assistant", "con', cut=True)
TORN_JSON = Fault(body='{"choices": [{"message": {"role": "assistant", "con')
NO_CHOICES = Fault(body='{"choices": []}')

Answer = Callable[[Payload], str]


def last_message(payload: Payload) -> str:
    """The content of the last message: what the stub answers by default."""
    return str(payload["messages"][-1]["content"])


class OpenAIStub:
    """Serves `/v1/chat/completions` and `/v1/models` on loopback while its `with` block runs.

    `faults` go wrong in their order, a call each (None: a good call); `always` is how every call after them goes wrong.
    `key`, where given, is asked for. `calls` are the payloads that came, `most_at_once` how many were in flight together.
    """

    def __init__(
        self,
        answer: Answer = last_message,
        *,
        faults: Sequence[Fault | None] = (),
        always: Fault | None = None,
        key: str | None = None,
        delay_s: float = 0.0,
    ) -> None:
        self.calls: list[Payload] = []
        self.most_at_once = 0
        self.base_url = ""
        self._answer, self._faults, self._always, self._key, self._delay_s = answer, list(faults), always, key, delay_s
        self._at_once = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai-stub", daemon=True)
        self._runner: web.AppRunner | None = None

    def __enter__(self) -> OpenAIStub:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.base_url = f"http://127.0.0.1:{port}/v1"

    async def _stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _models(self, _request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "stub", "object": "model"}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        payload: Payload = await request.json()
        self.calls.append(payload)
        fault = self._faults.pop(0) if self._faults else self._always
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await asyncio.sleep(self._delay_s + (fault.delay_s if fault else 0.0))
        finally:
            self._at_once -= 1
        if self._key is not None and request.headers.get("Authorization") != f"Bearer {self._key}":
            fault = refused(401, "Incorrect API key provided", code="invalid_api_key")
        return await _misbehave(request, fault) if fault else web.json_response(self._good(payload))

    def _good(self, payload: Payload) -> Payload:
        text = self._answer(payload)
        words = text.split()
        limit = int(payload.get("max_tokens") or 1 << 30)
        cut = len(words) > limit
        asked = sum(len(str(message["content"]).split()) for message in payload["messages"])
        written = min(len(words), limit)
        return {
            "id": f"chatcmpl-{len(self.calls)}",
            "object": "chat.completion",
            "model": payload.get("model", "stub"),
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": " ".join(words[:limit]) if cut else text},
                    "finish_reason": "length" if cut else "stop",
                }
            ],
            "usage": {"prompt_tokens": asked, "completion_tokens": written, "total_tokens": asked + written},
        }


async def _misbehave(request: web.Request, fault: Fault) -> web.StreamResponse:
    if not fault.cut:
        return web.Response(status=fault.status, text=fault.body, content_type=fault.content_type, headers=fault.headers)
    body = fault.body.encode()
    response = web.StreamResponse(status=fault.status, headers={"Content-Length": str(2 * len(body))})
    response.content_type = fault.content_type
    await response.prepare(request)
    await response.write(body)
    assert request.transport is not None
    request.transport.close()
    return response

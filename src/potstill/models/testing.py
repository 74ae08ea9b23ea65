"""An OpenAI-compatible server in this process, for tests and dry runs: it answers by a function, and misbehaves on demand."""

from __future__ import annotations

import asyncio
import email.utils
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from potstill.models import testing_batches
from potstill.models.testing_batches import BatchPlan, Desk
from potstill.models.testing_scores import scored_prompt
from potstill.models.testing_streams import AS_OPENAI_DOES, Change, Streaming

Payload = dict[str, Any]
Answer = Callable[[Payload], str]


@dataclass(frozen=True, slots=True)
class Fault:
    """How a call goes wrong.

    Another `status`, `body` (None: the good answer, changed by `edit`) or headers; `delay_s` late; the body in small pieces with
    `drip_s` between them; the connection closed in the middle of the body (`cut`), or reset instead of a reply (`reset`). A `late`
    fault spoils the reply alone: what was asked for is done (calls about batches only). `events` are what is left of a streamed
    answer's, which `cut` then leaves without an end.
    """

    status: int = 200
    body: str | None = ""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    drip_s: float = 0.0
    cut: bool = False
    reset: bool = False
    late: bool = False
    edit: Callable[[Payload], object] | None = None
    events: Change | None = None


def refused(status: int, words: str = "no", *, code: str = "", retry_after: str | None = None) -> Fault:
    """An error in OpenAI's shape."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return Fault(status, json.dumps({"error": {"message": words, "code": code or None}}), headers=headers)


def storm(calls: int, *, retry_after: str | None = None) -> list[Fault | None]:
    """So many calls that are told to slow down; `retry_after` in seconds, a date (`at_date`), or not at all."""
    return [refused(429, "Rate limit reached", code="rate_limit_exceeded", retry_after=retry_after)] * calls


def at_date(seconds: float) -> str:
    """A `Retry-After` of about so many seconds, as an HTTP date (which knows whole seconds only)."""
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


def answered(content: str | None, finish_reason: str = "stop", **message: str) -> Fault:
    """An answer with this very content (None, empty), which the stub's function would not give."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish_reason}
    return Fault(body=json.dumps({"model": "stub", "choices": [choice]}))


def edited(change: Callable[[Payload], object]) -> Fault:
    """The good answer after `change` was applied to its body."""
    return Fault(body=None, edit=change)


def dripping(seconds: float) -> Fault:
    """The good answer, some bytes every so many seconds."""
    return Fault(body=None, drip_s=seconds)


def streaming(change: Change, *, cut: bool = False) -> Fault:
    """The good answer, streamed as far as `change` leaves its events; `cut`: the connection is closed there."""
    return Fault(body=None, events=change, cut=cut)


def _one_too_many(body: Payload) -> None:
    body["choices"].append({**body["choices"][-1], "index": len(body["choices"])})


def _one_index_for_all(body: Payload) -> None:
    for choice in body["choices"]:
        choice["index"] = 0


HTML = Fault(body="<!DOCTYPE html><html><head><title>Welcome</title></head></html>", content_type="text/html")
HALF_A_BODY = Fault(body='{"choices": [{"message": {"role": "assistant", "con', cut=True)
TORN_JSON = Fault(body='{"choices": [{"message": {"role": "assistant", "con')
NO_CHOICES = Fault(body='{"choices": []}')
RESET = Fault(reset=True)
LOST_REPLY = Fault(reset=True, late=True)
ONE_CHOICE_LESS = edited(lambda body: body["choices"].pop())
ONE_CHOICE_MORE = edited(_one_too_many)
SAME_INDEX = edited(_one_index_for_all)
NO_USAGE = edited(lambda body: body.pop("usage"))
NEGATIVE_USAGE = edited(lambda body: body.update(usage={"prompt_tokens": -7, "completion_tokens": -1, "total_tokens": -8}))
MEGABYTE = edited(lambda body: body["choices"][0]["message"].update(content="x" * 1_000_000))


def last_message(payload: Payload) -> str:
    """The content of the last message: what the stub answers by default."""
    return str(payload["messages"][-1]["content"])


class OpenAIStub:
    """Serves `/v1/chat/completions`, `/v1/models`, `/v1/files` and `/v1/batches` on loopback while its `with` block runs.

    `faults` go wrong in their order, a call each (None: a good call); `always` is how every call after them goes wrong. `key`,
    where given, is asked for; `models`, where given, are the only names that it knows; `refuse` may refuse a payload. `calls` are
    the payloads that came, `most_at_once` how many were in flight together. `n` and `logprobs` are honoured: `answer` sees each
    sample's own seed.

    `batches` tell how each batch goes that is submitted (any further one as it should), `batch_faults` which calls about files and
    batches go wrong, by the route's name (`potstill.models.testing_batches.ROUTES`); `desk` holds what was handed in.

    `scores`: it honours `prompt_logprobs`, as vLLM does; others pass over it.

    Who asks for a stream gets one as `stream` says (None: the ordinary body).
    """

    def __init__(
        self,
        answer: Answer = last_message,
        *,
        faults: Sequence[Fault | None] = (),
        always: Fault | None = None,
        key: str | None = None,
        models: Sequence[str] | None = None,
        refuse: Callable[[Payload], Fault | None] | None = None,
        delay_s: float = 0.0,
        scores: bool = False,
        stream: Streaming | None = AS_OPENAI_DOES,
        batches: Sequence[BatchPlan] = (),
        batch_faults: Mapping[str, Sequence[Fault | None]] | None = None,
    ) -> None:
        self.calls: list[Payload] = []
        self.answered = 0
        self.most_at_once = 0
        self.base_url = ""
        self.desk = Desk(batches, self._answer_line)
        self._answer, self._faults, self._always, self._key, self._delay_s = answer, list(faults), always, key, delay_s
        self._models, self._refuse, self._at_once, self._scores = models, refuse, 0, scores
        self._stream = stream
        self._batch_faults = {route: list(found) for route, found in (batch_faults or {}).items()}
        assert set(self._batch_faults) <= set(testing_batches.ROUTES), "a fault of a route that is not there"
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

    @property
    def secure_url(self) -> str:
        """The address as one that speaks TLS, which this server does not."""
        return self.base_url.replace("http://", "https://")

    async def _start(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._list_models)
        for name, (method, path) in testing_batches.ROUTES.items():
            app.router.add_route(method, path, self._at_the_desk(name))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.base_url = f"http://127.0.0.1:{port}/v1"

    async def _stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _list_models(self, _request: web.Request) -> web.Response:
        names = self._models or ("stub",)
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})

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
        fault = self._unknown_caller(request) or self._refused(payload) or fault
        if fault is None or fault.body is None:
            good = self._good(payload)
            if fault is not None and fault.edit is not None:
                fault.edit(good)
            self.answered += 1
            if payload.get("stream") and self._stream is not None:
                fault = fault or Fault()
                return await self._stream.send(request, self._stream.chunks(payload, good), change=fault.events, cut=fault.cut)
            text = json.dumps(good)
            return web.json_response(text=text) if fault is None else await _misbehave(request, fault, text)
        return await _misbehave(request, fault, fault.body)

    def _at_the_desk(self, route: str) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.StreamResponse:
            waiting = self._batch_faults.get(route)
            fault = self._unknown_caller(request) or (waiting.pop(0) if waiting else None)
            if fault is None:
                return await self.desk.handle(route, request)
            if fault.late:
                await self.desk.handle(route, request)
            await asyncio.sleep(fault.delay_s)
            return await _misbehave(request, fault, fault.body or "")

        return handle

    def _unknown_caller(self, request: web.Request) -> Fault | None:
        if self._key is None or request.headers.get("Authorization") == f"Bearer {self._key}":
            return None
        return refused(401, "Incorrect API key provided", code="invalid_api_key")

    def _refused(self, payload: Payload) -> Fault | None:
        if self._models is None or payload.get("model") in self._models:
            return None if self._refuse is None else self._refuse(payload)
        words = f"The model `{payload.get('model')}` does not exist or you do not have access to it."
        return refused(404, words, code="model_not_found")

    def _answer_line(self, payload: Payload) -> tuple[int, Payload]:
        """Status and body of a batch's line."""
        fault = self._refused(payload)
        return (200, self._good(payload)) if fault is None else (fault.status, json.loads(fault.body or "{}"))

    def _good(self, payload: Payload) -> Payload:
        limit = int(payload.get("max_tokens") or payload.get("max_completion_tokens") or 1 << 30)
        choices, written = [], 0
        for index in range(int(payload.get("n") or 1)):
            text = self._answer({**payload, "seed": payload["seed"] + index} if "seed" in payload else payload)
            words = text.split()
            cut = len(words) > limit
            choice = _choice(index, " ".join(words[:limit]) if cut else text, "length" if cut else "stop")
            if payload.get("logprobs"):
                top = int(payload.get("top_logprobs") or 0)
                choice["logprobs"] = {"content": [_place(word, top) for word in re.findall(r"\s*\S+", text)[:limit]]}
            choices.append(choice)
            written += min(len(words), limit)
        asked = sum(len(str(message["content"]).split()) for message in payload["messages"])
        scored = scored_prompt(payload) if payload.get("prompt_logprobs") and self._scores else {}
        return _completion(str(payload.get("model", "stub")), choices, asked, written) | scored


def _completion(model: str, choices: list[Payload], asked: int, written: int) -> Payload:
    usage = {"prompt_tokens": asked, "completion_tokens": written, "total_tokens": asked + written}
    return {"id": "chatcmpl-stub", "object": "chat.completion", "model": model, "choices": choices, "usage": usage}


def _choice(index: int, text: str, finish_reason: str = "stop") -> Payload:
    return {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}


def _place(word: str, top: int) -> Payload:
    """A written token (a word and the space before it) with its log-probability, and those of the likeliest tokens at its place."""
    others = [{"token": word if rank == 0 else f"other{rank}", "logprob": -0.1 - 3.0 * rank} for rank in range(top)]
    return {"token": word, "logprob": -0.1, "top_logprobs": others}


async def _misbehave(request: web.Request, fault: Fault, text: str) -> web.StreamResponse:
    if fault.reset:
        return _reset(request)
    if not fault.cut and not fault.drip_s:
        return web.Response(status=fault.status, text=text, content_type=fault.content_type, headers=fault.headers)
    body = text.encode()
    length = 2 * len(body) if fault.cut else len(body)
    response = web.StreamResponse(status=fault.status, headers={"Content-Length": str(length)})
    response.content_type = fault.content_type
    await response.prepare(request)
    size = max(len(body) // 8, 1) if fault.drip_s else len(body)
    for start in range(0, len(body), size):
        await response.write(body[start : start + size])
        await asyncio.sleep(fault.drip_s)
    if fault.cut:
        assert request.transport is not None
        request.transport.close()
    return response


def _reset(request: web.Request) -> web.Response:
    """End the connection by RST: the client sees it reset, without a byte of a reply."""
    assert request.transport is not None
    linger_not = struct.pack("ii", 1, 0)
    request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_not)
    request.transport.abort()
    return web.Response()

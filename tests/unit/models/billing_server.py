"""A chat-completions server that bills as a provider does: also for calls whose answer never arrives, or says nonsense of its tokens."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from dataclasses import dataclass
from typing import Any

from aiohttp import web

READ_PRICE, WRITTEN_PRICE = 0.003, 0.011
"""Dollars for one token."""


@dataclass
class Bill:
    """What the server has counted: calls that reached it, tokens and dollars that it charges for."""

    calls: int = 0
    tokens: int = 0
    dollars: float = 0.0


class BillingServer:
    """Runs in a thread while its `with` block does; `bill` may be read at any time.

    Of `trouble` (0 to 1) of the calls something goes wrong: refused, failed, cut off after the work was done, usage missing or
    senseless. It refuses calls with a field of `refuses` (`n`, `max_tokens`).
    """

    def __init__(self, seed: int, *, delay_s: float = 0.01, trouble: float = 0.0, refuses: str = "") -> None:
        self.bill = Bill()
        self.base_url = ""
        self._random = random.Random(seed)
        self._delay_s, self._trouble, self._refuses = delay_s, trouble, refuses
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> BillingServer:
        self._thread.start()
        self.base_url = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> str:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.bill.calls += 1
        asked: dict[str, Any] = await request.json()
        if self._refuses in asked:
            words = (
                f"{self._refuses} is not supported; use max_completion_tokens" if self._refuses == "max_tokens" else "n is not supported"
            )
            return web.json_response({"error": {"message": words}}, status=400)
        count = asked.get("n", 1)
        trouble = self._random.choice(TROUBLES) if self._random.random() < self._trouble else "none"
        if trouble in REFUSALS:
            return web.json_response({"error": {"message": trouble}}, status=REFUSALS[trouble])
        usage = self._charge(asked, count)
        await asyncio.sleep(self._random.uniform(0, 2 * self._delay_s))
        body = {"model": "billing", "choices": [_choice(place) for place in range(count)], "usage": SAID.get(trouble, usage)}
        if trouble == "cut off":
            return await _cut_off(request, json.dumps(body).encode())
        return web.json_response(body)

    def _charge(self, asked: dict[str, Any], count: int) -> dict[str, int]:
        prompt = sum(len(message["content"].encode()) for message in asked["messages"])
        read = self._random.randint(1, prompt + 8 * len(asked["messages"]))
        written = sum(self._random.randint(0, asked.get("max_tokens", asked.get("max_completion_tokens"))) for _ in range(count))
        self.bill.tokens += read + written
        self.bill.dollars += read * READ_PRICE + written * WRITTEN_PRICE
        return {"prompt_tokens": read, "completion_tokens": written}


REFUSALS = {"slow down": 429, "oops": 500}
SAID: dict[str, object] = {"no usage": None, "senseless usage": {"prompt_tokens": -1, "completion_tokens": 10**12}}
TROUBLES = [*REFUSALS, *SAID, "cut off"]


def _choice(place: int) -> dict[str, Any]:
    return {"index": place, "message": {"role": "assistant", "content": "Whisky."}, "finish_reason": "stop"}


async def _cut_off(request: web.Request, body: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": str(len(body)), "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    assert request.transport is not None
    request.transport.close()
    return response

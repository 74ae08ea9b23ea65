"""A server of chat completions on loopback, in a process of its own, that costs next to nothing: what is measured is the client.

It speaks just enough HTTP/1.1 for the clients at hand, answers every question with the same text of about 1 KB, at once or after
`delay_s`, and counts. As a context manager:

    with serve(delay_s=0.2) as address: ...
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import urllib.request
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

ANSWER = "An answer of some length, as a teacher would give it. " * 19
_USAGE = {"prompt_tokens": 60, "completion_tokens": 250, "total_tokens": 310}
_CHOICE = {"index": 0, "message": {"role": "assistant", "content": ANSWER}, "finish_reason": "stop"}
_BODY = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "loopback", "choices": [_CHOICE], "usage": _USAGE}
# Clients that ask for limits are told of ones that never bind.
_LIMITS = "x-ratelimit-limit-requests: 10000000\r\nx-ratelimit-limit-tokens: 100000000000\r\n"


def _response(body: object) -> bytes:
    content = json.dumps(body).encode()
    return f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{_LIMITS}Content-Length: {len(content)}\r\n\r\n".encode() + content


@contextlib.contextmanager
def serve(delay_s: float = 0.0) -> Iterator[str]:
    """The address, `/v1` included, of a server that runs while the block does."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, delay_s), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}/v1"
    finally:
        process.terminate()
        process.join()


def counts(address: str, *, reset: bool = False) -> dict[str, float]:
    """`calls` since the last reset, `most_at_once` of them together, and `first`, `last`: when they came, seconds since 1970."""
    with urllib.request.urlopen(f"{address}/{'reset' if reset else 'counts'}") as answer:
        found: dict[str, float] = json.load(answer)
    return found


class _Counts:
    def __init__(self) -> None:
        self.calls = self.at_once = self.most_at_once = 0
        self.first = self.last = 0.0

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "at_once"}


class _Protocol(asyncio.Protocol):
    """One connection; requests on it come one after another."""

    def __init__(self, counted: _Counts, delay_s: float, now: Callable[[], float]) -> None:
        self._counted, self._delay_s, self._now = counted, delay_s, now
        self._answer = _response(_BODY)
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, found, body = self._held.partition(b"\r\n\r\n")
        if not found or len(body) < _content_length(head):
            return
        self._held = b""
        if head.startswith(b"GET"):
            self._tell(reset=b"/reset" in head.split(b"\r\n", 1)[0])
        else:
            self._take()

    def _take(self) -> None:
        counted = self._counted
        counted.calls += 1
        counted.at_once += 1
        counted.most_at_once = max(counted.most_at_once, counted.at_once)
        counted.last = self._now()
        counted.first = counted.first or counted.last
        if self._delay_s:
            asyncio.get_running_loop().call_later(self._delay_s, self._give)
        else:
            self._give()

    def _give(self) -> None:
        self._counted.at_once -= 1
        self._transport.write(self._answer)

    def _tell(self, reset: bool) -> None:
        self._transport.write(_response(self._counted.to_json()))
        if reset:
            vars(self._counted).update(vars(_Counts()))


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _run(pipe: Connection, delay_s: float) -> None:
    asyncio.run(_listen(pipe, delay_s))


async def _listen(pipe: Connection, delay_s: float) -> None:
    import time

    counted = _Counts()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Protocol(counted, delay_s, time.time), "127.0.0.1", 0, backlog=1024)
    pipe.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()

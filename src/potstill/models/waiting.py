"""Waiting in turn for something to change, in whichever event loop runs now."""

from __future__ import annotations

import asyncio
import contextlib


class Waiting:
    """A turn and a change. Locks belong to one event loop each; this makes its own anew where another loop runs."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn, self._change = asyncio.Lock(), asyncio.Event()

    @property
    def turn(self) -> asyncio.Lock:
        """Held by whoever is next; those behind wait in order."""
        self._here()
        return self._turn

    async def for_change(self, seconds: float | None = None) -> None:
        """Until the next `tell_change`, or for so many seconds at most."""
        self._here()
        self._change.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._change.wait()

    def tell_change(self) -> None:
        """Wake who waits."""
        self._change.set()

    def _here(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._turn, self._change = asyncio.Lock(), asyncio.Event()

"""An event loop whose clock jumps to the next timer instead of waiting, so that hours pass in milliseconds and no figure is by chance."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

Clock = Callable[[], float]


_LONGEST_S = 1e6


class _Jumping(selectors.DefaultSelector):
    """Never waits: what would be waited for is added to the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits for somebody else"
        self.now += max(timeout, 0.0)
        assert self.now < _LONGEST_S, "nothing happens any more"
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def run(story: Callable[[Clock], Coroutine[Any, Any, Any]]) -> Any:
    """What `story(clock)` returns; it fails where all tasks wait for each other."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        loop = runner.get_loop()
        return runner.run(story(loop.time))

"""A model behind an endpoint that is not there: a function says what becomes of each call, and the clock may be a virtual one."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence

from virtual_time import Clock

from potstill.models.base import Capabilities
from potstill.models.throttle import Limits, Throttle
from potstill.records import Completion, Cost, Fault, Message, Request, Sampling, Usage

Outcome = str | Fault | None
"""What becomes of one request: a text, a fault, or a failure for good (None)."""
Script = Callable[[Sequence[Request]], "Sequence[Outcome] | Awaitable[Sequence[Outcome]]"]

MOST_NEW = 8
READ, WRITTEN = 3, 2
DOLLARS_A_TOKEN = 0.25


def question(text: str, sample: int = 0) -> Request:
    return Request((Message("user", text),), Sampling(MOST_NEW, temperature=1.0), sample)


def text_of(request: Request) -> str:
    return request.messages[-1].content


class FakeEndpoint:
    """Calls `script` with the requests of each call, which takes `seconds`; `calls` are the texts and samples of each, `times` when it left.

    `ends` are when calls came back, or were given up. Priced by tokens, or `dollars_a_second`.
    """

    capabilities = Capabilities()
    name = identity = address = "fake"
    batch_size = 1
    backoff_s = 1.0

    def __init__(
        self,
        script: Script,
        clock: Clock,
        *,
        limits: Limits | None = None,
        max_attempts: int = 3,
        samples_a_call: int = 1,
        seconds: float = 0.5,
        name: str = "fake",
        dollars_a_second: float | None = None,
    ) -> None:
        self.name = self.identity = name
        self.max_attempts, self.samples_a_call = max_attempts, samples_a_call
        limits = limits or Limits(4)
        self.concurrency = limits.concurrency
        self.throttle = Throttle("fake", limits, clock=clock)
        self.calls: list[list[tuple[str, int]]] = []
        self.times: list[float] = []
        self.ends: list[float] = []
        self._dollars_a_second = dollars_a_second
        self._script, self._clock, self._seconds = script, clock, seconds

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        self.calls.append([(text_of(request), request.sample) for request in requests])
        self.times.append(self._clock())
        try:
            await asyncio.sleep(self._seconds)
            outcomes = self._script(requests)
            if inspect.isawaitable(outcomes):
                outcomes = await outcomes
        finally:
            self.ends.append(self._clock())
        if any(isinstance(outcome, Fault) and outcome.kind == "short" for outcome in outcomes):
            self.samples_a_call = 1
        return [self._completion(outcome) for outcome in outcomes]

    def _completion(self, outcome: Outcome) -> Completion:
        if isinstance(outcome, str):
            return Completion(outcome, "stop", Usage(READ, WRITTEN), self._seconds, self.name)
        return Completion("", "error", model=self.name, error="it said no", fault=outcome)

    def most(self, request: Request) -> Cost:
        tokens = READ + request.sampling.max_new_tokens
        return Cost(1, tokens, self.dollars(Completion("", "stop", Usage(tokens, 0))))

    def likely(self, request: Request) -> int:
        return READ + request.sampling.max_new_tokens

    def dollars(self, completion: Completion) -> float | None:
        if self._dollars_a_second is not None:
            return completion.busy_s * self._dollars_a_second
        return (completion.usage.input_tokens + completion.usage.output_tokens) * DOLLARS_A_TOKEN

    async def close(self) -> None:
        pass

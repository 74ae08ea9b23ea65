"""What a model is to Potstill: something that can be asked. Teacher, baseline and student are roles of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from potstill.records import Completion, Cost, Request

if TYPE_CHECKING:
    from potstill.models.throttle import Throttle


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can do. A stage that needs one that is missing says so before anything is spent."""

    chat: bool = True
    logprobs: bool = False
    """Log-probabilities of the tokens it wrote."""
    logits: bool = False
    """Full logits of any position, in process."""
    hidden_states: bool = False
    sampling: bool = True


class Model(Protocol):
    """A model that can be asked.

    `identity` is what an answer depends on besides the request (endpoint and name, or a hash of the weights); it is part of
    the ledger's key. `batch_size` is how many requests `complete` takes at once with profit, `concurrency` how many calls
    of `complete` may be in flight.
    """

    name: str
    identity: str
    capabilities: Capabilities
    batch_size: int
    concurrency: int

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer each request, in order.

        A request that failed by itself comes back as a Completion with finish_reason "error". Raises EndpointError or
        ModelError where asking further cannot help.
        """
        ...

    def dollars(self, completion: Completion) -> float | None:
        """What this answer cost; 0.0 for local models, None where the price is unknown."""
        ...

    async def close(self) -> None:
        """Let go of connections and memory."""
        ...


@runtime_checkable
class Counted(Protocol):
    """A model that can say beforehand what a call costs: what a budget needs."""

    def most(self, request: Request) -> Cost:
        """The most that one call for this request can cost."""
        ...


@runtime_checkable
class Remote(Counted, Protocol):
    """A model behind an endpoint: its calls are admitted one by one, fail, and are tried again.

    `samples_a_call` is how many samples of one question go into one call; `max_attempts` how often a question is asked before its
    failure is final; `backoff_s` how long the first wait is.
    """

    address: str
    max_attempts: int
    backoff_s: float

    @property
    def samples_a_call(self) -> int:
        """At least 1; it may change as the endpoint is got to know: to 1 where answers did not come (`short`)."""
        ...

    @property
    def throttle(self) -> Throttle:
        """Who admits the calls."""
        ...

    def likely(self, request: Request) -> int:
        """About how many tokens a call for this request uses."""
        ...

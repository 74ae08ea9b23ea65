"""What a model is to Potstill: something that can be asked. Teacher, baseline and student are roles of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from potstill.records import Completion, Request


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

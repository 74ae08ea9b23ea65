"""A model that answers with what it was asked: the shipped fake, for dry runs and tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from potstill.models.base import Capabilities
from potstill.records import Completion, Request, Usage

Answer = Callable[[Request], str]


def last_user_turn(request: Request) -> str:
    """The last thing that the user said."""
    return next((m.content for m in reversed(request.messages) if m.role == "user"), "")


class EchoModel:
    """Answers by a function of the request, by default its last user turn; a word counts as a token.

    Answers longer than `max_new_tokens` words are cut there, as a real model's would be. `identity` must change with the
    function, because answers are kept by it.
    """

    capabilities = Capabilities(sampling=False)

    def __init__(self, answer: Answer = last_user_turn, *, name: str = "echo", identity: str = "echo:last-user-turn") -> None:
        self.name = name
        self.identity = identity
        self.batch_size = 32
        self.concurrency = 1
        self._answer = answer

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer each request, in order."""
        return [self._complete(request) for request in requests]

    def dollars(self, completion: Completion) -> float | None:  # noqa: ARG002 (the protocol's signature)
        """Nothing: it runs here."""
        return 0.0

    async def close(self) -> None:
        """Nothing is held."""

    def _complete(self, request: Request) -> Completion:
        text = self._answer(request)
        words = text.split()
        limit = request.sampling.max_new_tokens
        cut = len(words) > limit
        asked = sum(len(m.content.split()) for m in request.messages)
        return Completion(
            text=" ".join(words[:limit]) if cut else text,
            finish_reason="length" if cut else "stop",
            usage=Usage(asked, min(len(words), limit)),
            model=self.name,
        )

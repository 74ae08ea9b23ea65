"""The line that every summary is held against: the first sentence of the text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from potstill.models.base import Capabilities
from potstill.records import Completion, Request, Usage

_VERSION = 1
_SHORT = re.compile(r"(?:^|[\s(])(?:Dr|Mr|Mrs|Ms|Prof|St|No|Fig|Eq|al|vs|cf|e\.g|i\.e|[A-Z])\.$")
"""Abbreviations: their full stop ends no sentence."""
_END = re.compile(r"[.!?]['\")\]”’]*(?=\s+[^\sa-z])|[。！？]")


class LeadModel:
    """Answers a text by its first sentence; a first line that ends in a colon says what to do, and is no part of the text."""

    capabilities = Capabilities(sampling=False)
    batch_size = 256
    concurrency = 1
    identity = f"lead/{_VERSION}"

    def __init__(self, name: str = "lead") -> None:
        self.name = name

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """The first sentence of each request's last user turn."""
        return [Completion(lead_sentence(_asked(request)), "stop", Usage(), model=self.name) for request in requests]

    def dollars(self, completion: Completion) -> float | None:  # noqa: ARG002 (the protocol's signature)
        """Nothing."""
        return 0.0

    async def close(self) -> None:
        """Nothing is held."""


def lead_sentence(text: str) -> str:
    """The first sentence of a text; all of it where it has no other."""
    lines = text.strip().splitlines()
    if len(lines) > 1 and lines[0].rstrip().endswith(":"):
        lines = lines[1:]
    words = " ".join(" ".join(lines).split())
    ends = (found.end() for found in _END.finditer(words))
    return words[: next((end for end in ends if not _SHORT.search(words[:end])), len(words))]


def _asked(request: Request) -> str:
    return next((message.content for message in reversed(request.messages) if message.role == "user"), "")

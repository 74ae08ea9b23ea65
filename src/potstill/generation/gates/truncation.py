"""Drops answers that stop before their end: a student would learn to stop there too."""

from __future__ import annotations

from potstill.generation.gates.base import GateContext
from potstill.records import Verdict

NAME = "truncation"
VERSION = 1


def truncation(context: GateContext) -> Verdict:
    """Keep answers that the teacher ended by itself."""
    completion = context.completion
    if completion.finish_reason == "length":
        return Verdict(NAME, False, f"ran into the token limit after {completion.usage.output_tokens} tokens", VERSION)
    if completion.finish_reason == "content_filter":
        return Verdict(NAME, False, "was cut by the provider's content filter", VERSION)
    return Verdict(NAME, True, version=VERSION)

"""Drops answers that hold nothing but white space."""

from __future__ import annotations

from potstill.generation.gates.base import GateContext
from potstill.records import Verdict

NAME = "empty"
VERSION = 1


def empty(context: GateContext) -> Verdict:
    """Keep answers with at least one visible character."""
    if not context.completion.text.strip():
        return Verdict(NAME, False, "the answer is empty", VERSION)
    return Verdict(NAME, True, version=VERSION)

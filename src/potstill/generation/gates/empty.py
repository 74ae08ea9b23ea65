"""Drops answers that hold nothing but white space."""

from __future__ import annotations

from potstill.generation.gates.base import GateContext
from potstill.records import Verdict

NAME = "empty"
VERSION = 2


def empty(context: GateContext) -> Verdict:
    """Keep answers with at least one visible character. Code: `empty`."""
    # Zero-width characters and marks of direction are not white space, but nobody sees them either.
    if not any(character.isprintable() and not character.isspace() for character in context.completion.text):
        return Verdict(NAME, False, "the answer is empty", VERSION, "empty")
    return Verdict(NAME, True, version=VERSION)

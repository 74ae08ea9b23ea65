"""Drops answers that are shorter or longer than the spec wants them."""

from __future__ import annotations

from potstill.generation.gates.base import GateContext
from potstill.records import Verdict

NAME = "length"
VERSION = 1


def length(context: GateContext) -> Verdict:
    """Keep answers of `min_characters` to `max_characters`, outer white space aside. Codes: `short`, `long`."""
    count = len(context.completion.text.strip())
    least, most = context.gates.min_characters, context.gates.max_characters
    if least is not None and count < least:
        return Verdict(NAME, False, f"has {count:,} characters; gates.min_characters asks for {least:,}", VERSION, "short")
    if most is not None and count > most:
        return Verdict(NAME, False, f"has {count:,} characters; gates.max_characters allows {most:,}", VERSION, "long")
    return Verdict(NAME, True, version=VERSION)

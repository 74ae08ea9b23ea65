"""Drops answers that the task proves wrong: a sum against its gold value, a span that is not in the passage."""

from __future__ import annotations

from potstill.generation.gates.base import GateContext
from potstill.records import Verdict

NAME = "verifier"
VERSION = 2


def verifier(context: GateContext) -> Verdict:
    """Keep answers against which `task.verify` has nothing to say. Code: `disproved`."""
    objection = context.task.verify(context.example, context.completion.text)
    if objection is not None:
        return Verdict(NAME, False, objection, VERSION, "disproved")
    return Verdict(NAME, True, version=VERSION)

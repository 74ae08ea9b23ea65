"""Drops calls that failed: they brought no answer."""

from __future__ import annotations

from potstill.generation.gates.base import GateContext
from potstill.records import Verdict

NAME = "error"
VERSION = 1


def error(context: GateContext) -> Verdict:
    """Keep what arrived; the reason is the endpoint's own."""
    if context.completion.finish_reason == "error":
        return Verdict(NAME, False, context.completion.error or "the call failed, and no reason was given", VERSION)
    return Verdict(NAME, True, version=VERSION)

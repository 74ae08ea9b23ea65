"""Drops calls that failed: they brought no answer."""

from __future__ import annotations

from potstill.generation.gates.base import GateContext
from potstill.records import Verdict

NAME = "error"
VERSION = 2


def error(context: GateContext) -> Verdict:
    """Keep what arrived; the reason is the endpoint's own. Code: `failed`, or the kind of fault (`busy`, `down`, `garbled`, `short`)."""
    completion = context.completion
    if completion.finish_reason == "error":
        code = completion.fault.kind if completion.fault else "failed"
        return Verdict(NAME, False, completion.error or "the call failed, and no reason was given", VERSION, code)
    return Verdict(NAME, True, version=VERSION)

"""Drops answers that the task cannot read: no label, no number, no letter of a choice."""

from __future__ import annotations

from potstill.data.rows import quote
from potstill.generation.gates.base import GateContext
from potstill.records import Verdict

NAME = "format"
VERSION = 1


def format_gate(context: GateContext) -> Verdict:
    """Keep answers that `task.parse` reads."""
    text = context.completion.text
    if context.task.parse(text) is None:
        return Verdict(NAME, False, f"no answer of a {context.task.type} task is in {quote(text.strip())}", VERSION)
    return Verdict(NAME, True, version=VERSION)

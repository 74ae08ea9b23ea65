"""Which answers are kept: one small file a gate, and the dict below, in the order in which they are asked."""

from __future__ import annotations

from potstill.generation.gates.base import Gate, GateContext
from potstill.generation.gates.empty import empty
from potstill.generation.gates.error import error
from potstill.generation.gates.format import format_gate
from potstill.generation.gates.refusal import refusal
from potstill.generation.gates.truncation import truncation
from potstill.generation.gates.verifier import verifier
from potstill.records import Verdict
from potstill.spec.sections import GatesSpec

# The first gate that drops an answer gives the reason: causes stand before what they cause.
GATES: dict[str, Gate] = {
    "error": error,
    "truncation": truncation,
    "empty": empty,
    "refusal": refusal,
    "format": format_gate,
    "verifier": verifier,
}
ALWAYS_ON = frozenset({"error", "empty"})
"""What these drop is no answer at all, so no spec turns them off."""


def pass_gates(context: GateContext, gates: GatesSpec, scope: str = "answer") -> list[Verdict]:
    """The verdicts of the gates that are on, in order, up to the first that drops the answer."""
    verdicts: list[Verdict] = []
    if scope != "answer":
        return verdicts
    for name, gate in GATES.items():
        if name in ALWAYS_ON or getattr(gates, name):
            verdicts.append(gate(context))
            if not verdicts[-1].keep:
                break
    return verdicts


__all__ = ["ALWAYS_ON", "GATES", "Gate", "GateContext", "pass_gates"]

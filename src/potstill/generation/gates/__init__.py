"""Which answers are kept: one small file a gate, and the dict below, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from potstill.generation.gates.agreement import agreement
from potstill.generation.gates.base import UNSCORED, Gate, GateContext, Scope
from potstill.generation.gates.contamination import contamination
from potstill.generation.gates.custom import custom, load_custom, source_hash
from potstill.generation.gates.duplicates import duplicates
from potstill.generation.gates.empty import empty
from potstill.generation.gates.error import error
from potstill.generation.gates.format import format_gate
from potstill.generation.gates.gold import gold
from potstill.generation.gates.judge import judge
from potstill.generation.gates.language import check_language, language
from potstill.generation.gates.length import length
from potstill.generation.gates.personal_data import personal_data
from potstill.generation.gates.refusal import refusal
from potstill.generation.gates.truncation import truncation
from potstill.generation.gates.verifier import verifier
from potstill.records import Completion, Verdict
from potstill.spec.sections import GatesSpec

# The first gate that drops an answer gives the reason: causes stand before what they cause. What changes an answer stands behind
# those that read it as it came. A row that any gate drops must not outdo a later one as its twin, so `duplicates` comes last.
GATES: dict[str, Gate] = {
    "error": Gate(error),
    "truncation": Gate(truncation),
    "empty": Gate(empty),
    "refusal": Gate(refusal),
    "format": Gate(format_gate),
    "verifier": Gate(verifier),
    "length": Gate(length),
    "language": Gate(language),
    "personal_data": Gate(personal_data),
    "custom": Gate(custom),
    "contamination": Gate(contamination, "row"),
    "agreement": Gate(agreement, "row"),
    "gold": Gate(gold, "row"),
    "judge": Gate(judge, "row"),
    "duplicates": Gate(duplicates, "row"),
}
ALWAYS_ON = frozenset({"error", "empty"})
"""What these drop is no answer at all, so no spec turns them off."""
SWITCHES: dict[str, tuple[str, ...]] = {"length": ("min_characters", "max_characters"), "agreement": ("min_agreement",)}
"""The fields of the spec that turn a gate on, where they do not have its name."""


def is_on(name: str, gates: GatesSpec) -> bool:
    """Whether the spec asks for a gate."""
    fields = (getattr(gates, field) for field in SWITCHES.get(name, (name,)))
    return name in ALWAYS_ON or any(value is not None and value is not False and value != () for value in fields)


def pass_gates(context: GateContext, gates: GatesSpec, scope: Scope = "answer") -> list[Verdict]:
    """The verdicts of the gates of a scope that are on, in order, up to the first that drops the answer.

    Where a gate changes the answer, the gates after it see it changed. Raises SpecError where a setting cannot be followed, or the
    user's own gate fails.
    """
    verdicts: list[Verdict] = []
    context = replace(context, gates=gates)
    for name, gate in GATES.items():
        if gate.scope != scope or not is_on(name, gates):
            continue
        verdicts.append(gate.judge(context))
        if not verdicts[-1].keep:
            break
        context = replace(context, completion=as_changed(context.completion, verdicts[-1:]))
    return verdicts


def as_changed(completion: Completion, verdicts: Iterable[Verdict]) -> Completion:
    """The answer as the gates left it: with the text of the last verdict that brings one."""
    for verdict in verdicts:
        if verdict.text is not None:
            completion = replace(completion, text=verdict.text)
    return completion


def check_gates(gates: GatesSpec) -> None:
    """Raises SpecError where a gate that is on cannot work: a language that is not known, a function that is not there."""
    if gates.language is not None:
        check_language(gates.language)
    load_custom(gates.custom)


def fingerprint(gates: GatesSpec) -> dict[str, object]:
    """What verdicts depend on besides the answers: the settings, the order of the gates, and the code of the user's own."""
    return {"order": list(GATES), "gates": gates.model_dump(mode="json"), "custom": [source_hash(name) for name in gates.custom]}


__all__ = [
    "ALWAYS_ON",
    "GATES",
    "UNSCORED",
    "Gate",
    "GateContext",
    "Scope",
    "as_changed",
    "check_gates",
    "fingerprint",
    "is_on",
    "pass_gates",
]

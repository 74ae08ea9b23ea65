"""Answers at the gates, for the tests of the gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from potstill.generation.gates import GateContext, pass_gates
from potstill.generation.gates.base import Scope
from potstill.records import Completion, Example, FinishReason, Message, Usage, Verdict
from potstill.spec.sections import GatesSpec, TaskSpec
from potstill.tasks import build_task

NLI = build_task(TaskSpec(type="nli", labels=("yes", "no", "not sure")))
MATH = build_task(TaskSpec(type="math"))
CONVERSATION = build_task(TaskSpec(type="conversation"))
TRANSLATION = build_task(TaskSpec(type="translation"))
EXTRACTIVE = build_task(TaskSpec(type="qa"))
OPEN = build_task(TaskSpec(type="qa", answer="open"))
CHOICE = build_task(TaskSpec(type="qa", answer="choice"))


def context(
    text: str,
    *,
    task=CONVERSATION,
    asked: str = "Hello?",
    finish: FinishReason = "stop",
    reference: Sequence[str] = (),
    name: str = "row-1",
    **more: Any,
) -> GateContext:
    """One answer to one question."""
    messages = (Message("user", asked),)
    completion = Completion(text, finish, Usage(3, 8), error="503: busy" if finish == "error" else None)
    return GateContext(Example(name, messages, tuple(reference)), task, messages, completion, **more)


def verdict(text: str, gates: GatesSpec | None = None, scope: Scope = "answer", **rest: Any) -> Verdict:
    """The last word of the gates of a scope on one answer."""
    return pass_gates(context(text, **rest), gates or GatesSpec(), scope)[-1]


def said(gate: str, text: str, gates: GatesSpec | None = None, scope: Scope = "answer", **rest: Any) -> Verdict:
    """What one gate says of one answer, which must reach it."""
    return next(found for found in pass_gates(context(text, **rest), gates or GatesSpec(), scope) if found.gate == gate)

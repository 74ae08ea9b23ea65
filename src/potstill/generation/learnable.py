"""A reply as it may be learnt: its gates passed, the answer proper cut out, personal data masked in all that is written down."""

from __future__ import annotations

from dataclasses import replace

from potstill.data.rows import quote
from potstill.generation.candidate import Candidate
from potstill.generation.choosing.likeness import is_closed
from potstill.generation.gates import GateContext, as_changed, is_on, pass_gates
from potstill.generation.gates.format import NAME, VERSION
from potstill.generation.gates.personal_data import personal_data
from potstill.models.talk import Reply
from potstill.records import Completion, Example, Message, Verdict
from potstill.spec.sections import GatesSpec
from potstill.tasks.base import Task


def judge_reply(example: Example, task: Task, messages: tuple[Message, ...], reply: Reply, gates: GatesSpec) -> Candidate:
    """The reply with what the gates of answers say of it, of its reasons and of its drafts."""
    context = GateContext(example, task, messages, reply.completion, schema=task.schema, gates=gates)
    verdicts = tuple(pass_gates(context, gates))
    candidate = Candidate(reply, as_changed(reply.completion, verdicts).text, verdicts)
    candidate = _bare(candidate, task, gates) if candidate.kept and reply.reasoned else candidate
    return _masked(candidate, context) if candidate.kept and is_on("personal_data", gates) else candidate


def _bare(candidate: Candidate, task: Task, gates: GatesSpec) -> Candidate:
    """The answer without what stands around it: its normal form where that says all. Reasons in its place are no answer."""
    if is_closed(task) and (answer := task.parse(candidate.text)) is not None:
        return replace(candidate, text=answer)
    if candidate.reply.told_apart or not is_on("format", gates):
        return candidate
    reason = f"no line `Answer: ...` tells the answer from the reasons in {quote(candidate.text.strip())}"
    return replace(candidate, verdicts=(*candidate.verdicts, Verdict(NAME, False, reason, VERSION, "no_answer_line")))


def _masked(candidate: Candidate, context: GateContext) -> Candidate:
    reply, verdicts = candidate.reply, list(candidate.verdicts)
    texts = [*filter(None, [reply.rationale]), *reply.rounds]
    for place, text in enumerate(texts):
        said = personal_data(replace(context, completion=Completion(text, "stop")))
        if said.code:
            verdicts.append(replace(said, text=None))
        if not said.keep:
            return replace(candidate, verdicts=tuple(verdicts))
        texts[place] = text if said.text is None else said.text
    rationale = texts.pop(0) if reply.rationale else reply.rationale
    return replace(candidate, reply=replace(reply, rationale=rationale, rounds=tuple(texts)), verdicts=tuple(verdicts))

"""Reasons first, then the answer on a line of its own (chain of thought: Wei et al. 2022, arXiv 2201.11903)."""

from __future__ import annotations

from dataclasses import replace

from potstill.models.talk import Reply, Seat, Talk
from potstill.records import Example, Message
from potstill.tasks.prompting.base import Strategy, one_step, plain_reply, with_system
from potstill.tasks.replies import split_reasons

INSTRUCTION = (
    "Think step by step before you answer: write down your reasons in a few short sentences. Then give the answer alone on a last line, "
    "as `Answer: ...`."
)


class ChainOfThought(Strategy):
    """The instruction joins the system prompt; the reply is split at its last `Answer:`."""

    version = "chain_of_thought/1"

    @property
    def words(self) -> str:
        """The spec's instruction, else Potstill's."""
        return self.spec.instruction or INSTRUCTION

    def worked(self, example: Example) -> str | None:
        """The row's own reasons, then its gold answer."""
        return f"{example.rationale}\nAnswer: {example.reference[0]}" if example.reference and example.rationale else None

    def talk(self, seat: Seat, messages: tuple[Message, ...], sample: int) -> Talk[Reply]:
        """Ask once, with room for the reasons."""
        told = with_system(messages, self.words)
        [answered] = yield one_step(self.ask(seat, told, sample, extra_tokens=self.spec.reasoning_tokens))
        reply = plain_reply(answered)
        rationale, answer = split_reasons(reply.answer)
        told_apart = answer != reply.answer or reply.rationale is not None
        completion = replace(reply.completion, text=answer)
        return replace(reply, completion=completion, rationale=rationale or reply.rationale, reasoned=True, told_apart=told_apart)

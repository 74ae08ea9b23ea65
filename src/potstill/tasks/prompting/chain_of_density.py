"""Summaries in rounds, each as long as the one before and fuller (chain of density: Adams et al. 2023, arXiv 2309.04269)."""

from __future__ import annotations

from dataclasses import replace

from potstill.models.talk import Reply, Seat, Step, Talk
from potstill.records import Message
from potstill.tasks.prompting.base import Strategy, plain_reply

INSTRUCTION = (
    "Write the summary again, no longer than before. Find one to three facts of the text that it lacks and that matter most, and fit them "
    "in by saying the rest in fewer words; drop nothing that it names. Answer with the new summary alone."
)


class ChainOfDensity(Strategy):
    """The first round is the row's own question; each later one sees the rounds before it as turns."""

    version = "chain_of_density/1"

    @property
    def steps(self) -> int:  # type: ignore[override]
        """Rounds."""
        return self.spec.rounds

    def talk(self, seat: Seat, messages: tuple[Message, ...], sample: int) -> Talk[Reply]:
        """Ask round after round, until one fails or is cut off; the last good one is the reply."""
        rounds: list[str] = []
        reply: Reply | None = None
        for number in range(self.spec.rounds):
            [answered] = yield Step((self.ask(seat, messages, sample),), last=number == self.spec.rounds - 1)
            found = plain_reply(answered)
            if found.completion.finish_reason != "stop" or not found.answer.strip():
                break
            rounds.append(found.answer.strip())
            reply = found
            messages = (*messages, Message("assistant", rounds[-1]), Message("user", self.spec.instruction or INSTRUCTION))
        return replace(reply or found, rounds=tuple(rounds))

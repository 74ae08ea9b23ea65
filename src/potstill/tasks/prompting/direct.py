"""The row's messages as they are, with the spec's own instruction where it has one."""

from __future__ import annotations

from potstill.models.talk import Reply, Seat, Talk
from potstill.records import Message
from potstill.tasks.prompting.base import Strategy, one_step, plain_reply, with_system


class Direct(Strategy):
    """One question, one answer."""

    def talk(self, seat: Seat, messages: tuple[Message, ...], sample: int) -> Talk[Reply]:
        """Ask once."""
        if self.words:
            messages = with_system(messages, self.words)
        [answered] = yield one_step(self.ask(seat, messages, sample))
        return plain_reply(answered)

"""One reply, and what the gates said of it."""

from __future__ import annotations

from dataclasses import dataclass

from potstill.models.talk import Reply
from potstill.records import Verdict


@dataclass(frozen=True, slots=True)
class Candidate:
    """A reply at the gates: `text` is its answer as it would be learnt, `verdicts` go up to the first that drops it."""

    reply: Reply
    text: str
    verdicts: tuple[Verdict, ...]
    mark: float | None = None
    """The judge's, where one was asked for and given."""

    @property
    def kept(self) -> bool:
        """True where no gate dropped it."""
        return self.verdicts[-1].keep

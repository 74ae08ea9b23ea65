"""A provider's batch on its way: put together, handed in, read; and what its answers cost."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO

from potstill.models.openai_batches import Line, ProviderBatch, id_in
from potstill.models.questions import Question
from potstill.records import Cost

PRICE = 0.5
"""What an answer costs in a batch, of its price by itself: half at OpenAI, Azure, Anthropic, Groq, Mistral and Together."""


def batch_price(cost: Cost) -> Cost:
    """What a call costs in a batch, by what it costs by itself."""
    return dataclasses.replace(cost, dollars=None if cost.dollars is None else cost.dollars * PRICE)


@dataclass
class Filling:
    """A batch that is being put together: its lines on disk under no name, its intents in the ledger but for the last few."""

    id: str
    lines: IO[bytes]
    count: int = 0
    size: int = 0
    held: Cost = field(default_factory=Cost)
    unwritten: list[tuple[Question, Cost]] = field(default_factory=list)

    def add(self, question: Question, size: int, most: Cost) -> None:
        """Count a question, whose line of `size` bytes was written."""
        self.count += 1
        self.size += size
        self.held += most
        self.unwritten.append((question, most))


@dataclass
class Batch:
    """A batch at the provider: our id, theirs, what is held for it, and how far it is by their word."""

    id: str
    provider_id: str
    count: int
    held: Cost
    done: int = 0
    checked: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Reading:
    """What a pass over a batch's files found: how many lines, and by their ids those that cannot be read."""

    lines: int = 0
    unreadable: int = 0
    torn: dict[str, str] = field(default_factory=dict)

    def note(self, lines: Sequence[bytes], read: Sequence[Line | None]) -> None:
        """Count some lines, as they came and as they were read."""
        self.lines += len(lines)
        for line, understood in zip(lines, read, strict=True):
            if understood is None:
                self.unreadable += 1
                if (key := id_in(line)) is not None:
                    self.torn[key] = line.decode("utf-8", "replace")

    def whole(self, told: ProviderBatch) -> bool:
        """Whether this is all that the provider says there is."""
        files = told.output_file or told.error_file
        return files is None or (not self.unreadable and self.lines >= told.done)

"""What every kind of target answers."""

from __future__ import annotations

from typing import Protocol

from potstill.training.batches import Batch
from potstill.training.kernel import ChunkTarget


class Targets(Protocol):
    """What a batch's N trained positions should look like."""

    def at(self, batch: Batch) -> ChunkTarget:
        """A function from a slice of the N positions to what they should look like."""
        ...

"""One-hot targets: the token that stands in the text."""

from __future__ import annotations

from potstill.training.batches import Batch
from potstill.training.chunks import ChunkTarget


class TeacherText:
    """The text that the teacher wrote, token ids (n): the one-hot case."""

    def at(self, batch: Batch) -> ChunkTarget:
        """The next token of each position."""
        return batch.labels_N.__getitem__

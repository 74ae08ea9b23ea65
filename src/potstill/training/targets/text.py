"""One-hot targets: the token that stands in the text."""

from __future__ import annotations

from potstill.training.batches import Batch
from potstill.training.distributions import Distribution, one_hot
from potstill.training.kernel import ChunkTarget


class Text:
    """The text itself, whoever wrote it: all probability at the token that stands there."""

    def at(self, batch: Batch) -> ChunkTarget:
        """The next token of each position."""

        def tokens(part: slice) -> Distribution:
            return one_hot(batch.labels_N[part])

        return tokens

"""One-hot targets: the token that stands in the text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from potstill.training.batches import WRITTEN, Batch
from potstill.training.distributions import Distribution, one_hot
from potstill.training.kernel import ChunkTarget


class Text:
    """The text itself, whoever wrote it: all probability at the token that stands there."""

    def at(self, batch: Batch) -> ChunkTarget:
        """The next token of each position."""

        def tokens(part: slice) -> Distribution:
            return one_hot(batch.labels_N[part])

        return tokens


class GivenText(Text):
    """The given rows' text; where the student wrote a row, there is no target: it would only learn to repeat itself."""

    def at(self, batch: Batch) -> ChunkTarget:
        """The next token of each position of the given rows."""
        is_given_N = np.repeat(batch.rows_B != WRITTEN, batch.counts_B)
        if is_given_N.all():
            return super().at(batch)
        known_N = torch.from_numpy(is_given_N).to(batch.labels_N.device)

        def tokens(part: slice) -> Distribution:
            return replace(one_hot(batch.labels_N[part]), known_n=known_N[part])

        return tokens

"""What is trained: the student, and how it is told what it does wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from potstill.training.batches import Batch
from potstill.training.head import output_head, prove_head, trained_hidden
from potstill.training.kernel import pulled_loss
from potstill.training.objectives.base import Objective


class Learner(nn.Module):
    """The student as a module whose forward pass is the loss of a batch, a sum over its trained positions.

    So what wraps a module to train it (DDP, FSDP, autocast) wraps the whole of it, and no forward pass goes past the wrapper. What features
    are matched with is trained beside the student, and stands beside it: `student` alone is what is kept. Raises
    CapabilityError or ModelError where the student's head is none that training knows.
    """

    def __init__(self, student: Any, objective: Objective) -> None:
        super().__init__()
        self.student = student
        self._objective = objective
        self.features = objective.features
        prove_head(student)

    def forward(self, batch: Batch) -> Tensor:
        """The objective's sum over the batch's trained positions, in nats (and what features are measured in)."""
        # The teacher comes first: what it takes for a while is free again when the student keeps what its backward pass needs.
        pulls = [aim.pull(batch) for aim in self._objective.aims]
        if self.features is None:
            return pulled_loss(self._hidden(batch), output_head(self.student), pulls)
        with self.features.watching() as seen:
            hidden_ND = self._hidden(batch)
        matched: Tensor = pulled_loss(hidden_ND, output_head(self.student), pulls) + self.features(seen, batch)
        return matched

    def _hidden(self, batch: Batch) -> Tensor:
        with _sparse_where_tied(self.student):
            return trained_hidden(self.student, batch)


@contextlib.contextmanager
def _sparse_where_tied(student: Any) -> Iterator[None]:
    """While it lasts, an input embedding that is the head's weight too gets its gradient as the rows of the tokens that were read.

    Autograd adds them to the head's gradient, which every backward pass makes and which is dense: no second (V, D) array, nearly all of it
    zeros. An embedding of its own keeps its dense gradient: optimizers want one.
    """
    embedding = student.get_input_embeddings()
    if (
        not isinstance(embedding, nn.Embedding)
        or embedding.weight is not output_head(student).weight_VD
        or not embedding.weight.requires_grad
    ):
        yield
        return
    before, embedding.sparse = embedding.sparse, True
    try:
        yield
    finally:
        embedding.sparse = before


def pad_id(learner: Learner) -> int:
    """What rows are filled up with."""
    return int(learner.student.config.get_text_config().pad_token_id or 0)

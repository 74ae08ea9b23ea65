"""What is trained: the student, and how it is told what it does wrong."""

from __future__ import annotations

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
        if self.features is None:
            return self._pulled(trained_hidden(self.student, batch), batch)
        with self.features.watching() as seen:
            hidden_ND = trained_hidden(self.student, batch)
        matched: Tensor = self._pulled(hidden_ND, batch) + self.features(seen, batch)
        return matched

    def _pulled(self, hidden_ND: Tensor, batch: Batch) -> Tensor:
        return pulled_loss(hidden_ND, output_head(self.student), [aim.pull(batch) for aim in self._objective.aims])


def pad_id(learner: Learner) -> int:
    """What rows are filled up with."""
    return int(learner.student.config.get_text_config().pad_token_id or 0)

"""What an objective is: what the student is pulled to, how strongly, and by which divergence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from potstill.training.batches import Batch, LengthBatches, TokenRows
from potstill.training.kernel import Pull
from potstill.training.losses import Divergence, forward_kl
from potstill.training.on_policy.source import RolloutSource
from potstill.training.targets.base import Targets


@dataclass(frozen=True)
class Aim:
    """One part of an objective: `weight` times a divergence to targets; the student is taken at `temperature`."""

    targets: Targets
    divergence: Divergence
    weight: float = 1.0
    temperature: float = 1.0

    def pull(self, batch: Batch) -> Pull:
        """This part for one batch."""
        return Pull(self.targets.at(batch), self.divergence, self.weight, self.temperature, batch.weights_N)


@dataclass(frozen=True)
class Objective:
    """Aims whose sum over positions is minimised; the trainer divides it by the trained tokens of the whole step."""

    name: str
    aims: tuple[Aim, ...]


@dataclass(frozen=True)
class Lesson:
    """What is learnt from: the rows, the order of their batches, and the objective; `rollouts` are rows that the student writes itself."""

    rows: TokenRows
    batches: LengthBatches
    objective: Objective
    rollouts: RolloutSource | None = None


Teaching = Callable[[TokenRows, Any], Objective]
"""The objective for rows, and for the module that learns them: what is stored by row, or fits the student, is known only then."""


def always(objective: Objective) -> Teaching:
    """The same objective for whatever rows and student."""
    return lambda *_: objective


@dataclass(frozen=True)
class Ingredients:
    """What objectives are made of; each takes what it needs.

    `teacher` gives the teacher's distributions, `divergence` is taken from them, with the student at `temperature`. `text_weight` is the
    share of the text's own tokens in the loss, `teacher_weight` that of the teacher's distributions.
    """

    teacher: Targets | None = None
    divergence: Divergence = forward_kl
    temperature: float = 1.0
    teacher_weight: float = 1.0
    text_weight: float = 0.0

"""What an objective is: what the student is pulled to, how strongly, and by which divergence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.training.batches import Batch, LengthBatches, TokenRows
from potstill.training.features import FeatureMatching
from potstill.training.kernel import Pull
from potstill.training.losses import Divergence, cross_entropy, forward_kl
from potstill.training.on_policy.source import RolloutSource
from potstill.training.targets.base import Targets
from potstill.training.targets.text import Text


@dataclass(frozen=True)
class Aim:
    """One part of an objective: `weight` times a divergence to targets; the student is taken at `temperature`.

    `shares` is how far each of R rows is of this part's concern (0: not at all), and, last, rows that are none of those; None: all are.
    """

    targets: Targets
    divergence: Divergence
    weight: float = 1.0
    temperature: float = 1.0
    shares: NDArray[np.float32] | None = None

    def pull(self, batch: Batch) -> Pull:
        """This part for one batch."""
        return Pull(self.targets.at(batch), self.divergence, self.weight, self.temperature, self._weights(batch))

    def _weights(self, batch: Batch) -> Tensor | None:
        if self.shares is None:
            return batch.weights_N
        # Rows that are none of the given ones have negative numbers, and so find the last share.
        shares_N = torch.from_numpy(np.repeat(self.shares[batch.rows_B], batch.counts_B)).to(batch.labels_N.device)
        return shares_N if batch.weights_N is None else shares_N * batch.weights_N


@dataclass(frozen=True)
class Objective:
    """Aims whose sum over positions is minimised; the trainer divides it by the trained tokens of the whole step.

    `features` is added to them, and trained beside the student.
    """

    name: str
    aims: tuple[Aim, ...]
    features: FeatureMatching | None = None


def learn_text_of(objective: Objective, is_text_R: NDArray[np.bool_]) -> Objective:
    """The same objective, but that the rows of `is_text_R` (R,) are learnt by cross-entropy on their own words."""
    if not is_text_R.any() or all(isinstance(aim.targets, Text) for aim in objective.aims):
        return objective
    own = np.append(is_text_R, False).astype(np.float32)
    others = tuple(replace(aim, shares=(1 - own) * (1 if aim.shares is None else aim.shares)) for aim in objective.aims)
    return replace(objective, aims=(*others, Aim(Text(), cross_entropy, shares=own)))


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
    share of the text's own tokens in the loss, `teacher_weight` that of the teacher's distributions. `features` is what is matched inside
    student and teacher.
    """

    teacher: Targets | None = None
    divergence: Divergence = forward_kl
    temperature: float = 1.0
    teacher_weight: float = 1.0
    text_weight: float = 0.0
    features: FeatureMatching | None = None

"""What an objective is: targets, and the loss that pulls the student to them."""

from __future__ import annotations

from dataclasses import dataclass

from potstill.training.chunks import ChunkLoss
from potstill.training.targets.base import Targets


@dataclass(frozen=True)
class Objective:
    """`loss` sums over positions; the trainer divides by the trained tokens of the whole step."""

    name: str
    targets: Targets
    loss: ChunkLoss


@dataclass(frozen=True)
class Ingredients:
    """What objectives are made of; each takes what it needs. `temperature` is that of both distributions."""

    teacher: Targets | None = None
    temperature: float = 1.0

"""Which of several answers is learnt: one small file a way, and the dict that lists them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from potstill.generation.candidate import Candidate
from potstill.generation.choosing.base import Chosen, Situation
from potstill.generation.choosing.every import every
from potstill.generation.choosing.first import first
from potstill.generation.choosing.judge import judge
from potstill.generation.choosing.label_scores import label_scores
from potstill.generation.choosing.verifier import verifier
from potstill.generation.choosing.vote import vote
from potstill.models.talk import Talk

CHOICES: dict[str, Callable[[Situation, Sequence[Candidate]], Talk[Chosen]]] = {
    "first": first,
    "verifier": verifier,
    "vote": vote,
    "judge": judge,
    "label_scores": label_scores,
    "all": every,
}

__all__ = ["CHOICES", "Chosen", "Situation"]

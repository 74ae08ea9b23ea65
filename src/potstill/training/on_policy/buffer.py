"""What the student wrote, until it is too old to learn from or makes room for newer rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.training.batches import WRITTEN, TokenRow


@dataclass(frozen=True)
class Rollout:
    """A prompt and what the student wrote after it, its stop token included.

    `ids`: both, the first `prompt` of them the prompt's. `step`: how many updates the student had had when it wrote this.
    """

    ids: NDArray[np.int32]
    prompt: int
    step: int

    def __len__(self) -> int:
        """How many tokens the student wrote."""
        return len(self.ids) - self.prompt

    @property
    def row(self) -> TokenRow:
        """A row of which the written tokens alone are trained."""
        return TokenRow(self.ids, np.arange(len(self.ids)) >= self.prompt, WRITTEN)


class ReplayBuffer:
    """The `capacity` newest rollouts (Ko et al. 2024, arXiv 2402.03898, §3.2), of which those older than `staleness` steps are not used."""

    def __init__(self, capacity: int, staleness: int) -> None:
        self._staleness = staleness
        self._held: deque[Rollout] = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self._held)

    def add(self, rollouts: Iterable[Rollout]) -> None:
        """Take the newest in; the oldest make room for them."""
        self._held.extend(rollouts)

    def fresh(self, step: int) -> list[Rollout]:
        """What may be used at this step, the oldest first."""
        return [rollout for rollout in self._held if step - rollout.step <= self._staleness]

    def newest(self) -> list[Rollout]:
        """What was written last, at one step."""
        return [rollout for rollout in self._held if rollout.step == self._held[-1].step]

    def arrays(self) -> dict[str, NDArray[np.int64]]:
        """All of it as flat arrays: of R rollouts the `ids`, one after the other, where they begin and end (R + 1), and the rest (R)."""
        starts = np.cumsum([0, *(len(rollout.ids) for rollout in self._held)])
        return {
            "ids": np.concatenate([np.zeros(0), *(rollout.ids for rollout in self._held)]).astype(np.int64),
            "starts": starts.astype(np.int64),
            "prompts": np.array([rollout.prompt for rollout in self._held], dtype=np.int64),
            "steps": np.array([rollout.step for rollout in self._held], dtype=np.int64),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.int64]]) -> None:
        """Hold what `arrays` gave."""
        ids, starts = arrays["ids"].astype(np.int32), arrays["starts"]
        places = zip(starts[:-1], starts[1:], arrays["prompts"], arrays["steps"], strict=True)
        self._held.clear()
        self._held.extend(Rollout(ids[begin:end], int(prompt), int(step)) for begin, end, prompt, step in places)

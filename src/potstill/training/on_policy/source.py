"""Which rows a step learns from where the student writes some of them: decided by seed, step and the replay buffer, and nothing else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from potstill.models.decoding import Prompt
from potstill.spec.sections import OnPolicySpec
from potstill.training.batches import Batch, TokenRow, collate
from potstill.training.on_policy.buffer import ReplayBuffer, Rollout
from potstill.training.on_policy.write import Writing
from potstill.training.rows import EncodedRows

_FILE = "rollouts.safetensors"
# What a random number is for: two uses of one seed and step must not draw the same. Not 0, which numpy takes for nothing.
_ROUNDING, _PLACES, _ORDER, _PROMPTS, _SAMPLING = range(1, 6)

Write = Callable[[Sequence[Prompt], int], list[Rollout]]
"""What the student makes of prompts at a step."""


class RolloutSource:
    """Puts rows that the student wrote in the place of some given ones (GKD: Agarwal et al. 2024, arXiv 2306.13649, algorithm 1).

    Every `refresh` steps the student as it is then answers prompts of the given rows, each row's at its last trained turn, all equally
    often, and no more of them than the training's `steps` still draw; a replay buffer holds what it wrote (DistiLLM: Ko et al. 2024, arXiv
    2402.03898). Of a step's n rows a share λ comes out of the buffer: ⌊λ n + u⌋ rows with u uniform in [0, 1), so that the share is exact
    on average. No gradient flows through the writing.

    No generator has a state: each number is drawn anew from seed, step and purpose, so that the buffer and the count of what was written
    are all that `save` must keep for a resumed training to go on as an uninterrupted one.
    """

    def __init__(
        self, write: Write, given: EncodedRows, spec: OnPolicySpec, writing: Writing, *, batch_size: int, steps: int, seed: int
    ) -> None:
        self._write, self._given, self._spec, self._writing, self._seed = write, given, spec, writing, seed
        # Most rows that a step draws; `refresh` steps' draws do not overlap where each rollout is used once.
        self._a_step = math.ceil(spec.share * min(batch_size, len(given.rows)))
        self._steps = steps
        self.buffer = ReplayBuffer(spec.buffer, spec.oldest)
        self.rollouts = self.tokens = 0
        self.seconds = 0.0

    def mix(self, step: int, batches: list[Batch], device: torch.device) -> list[Batch]:
        """A step's micro-batches with some rows replaced, after the student has written where it is time to."""
        if self._a_step and step % self._spec.refresh == 0:
            self._refresh(step)
        indices = np.concatenate([batch.rows_B for batch in batches])
        count = math.floor(self._spec.share * len(indices) + _generator(self._seed, step, _ROUNDING).random())
        if count == 0:
            return batches
        kept = np.sort(_generator(self._seed, step, _PLACES).permutation(len(indices))[count:])
        rows = [self._given.rows[int(indices[place])] for place in kept] + self._drawn(step, count)
        # The longest first, as the given rows come: micro-batches hold rows of like length.
        rows.sort(key=lambda row: -len(row.ids))
        ends = np.cumsum([len(batch) for batch in batches])
        # What fills the padding is never seen; 0 is an id of every model.
        return [collate(rows[end - len(batch) : end], 0).to(device) for batch, end in zip(batches, ends, strict=True)]

    def figures(self) -> dict[str, float]:
        """Of what was written so far: rollouts, their tokens, the mean length of those written last, and the seconds that it took."""
        newest = self.buffer.newest()
        return {
            "rollouts": self.rollouts,
            "rollout_tokens": self.tokens,
            "rollout_length": sum(map(len, newest)) / len(newest),
            "writing_seconds": self.seconds,
        }

    def save(self, folder: Path) -> None:
        """Write down, in a checkpoint, all that `load` needs to go on."""
        counts = {"rollouts": np.array(self.rollouts), "tokens": np.array(self.tokens), "seconds": np.array(self.seconds)}
        save_file(self.buffer.arrays() | counts, folder / _FILE)

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint."""
        found = load_file(folder / _FILE)
        self.buffer.restore(found)
        self.rollouts, self.tokens, self.seconds = int(found["rollouts"]), int(found["tokens"]), float(found["seconds"])

    def _refresh(self, step: int) -> None:
        begun = time.monotonic()
        served = min(self._spec.refresh, self._steps - step)
        count = min(math.ceil(self._a_step * served / self._spec.reuse), self._spec.buffer)
        written = self._write([self._prompt(self.rollouts + place) for place in range(count)], step)
        self.buffer.add(written)
        self.rollouts += len(written)
        self.tokens += sum(map(len, written))
        self.seconds += time.monotonic() - begun

    def _prompt(self, number: int) -> Prompt:
        """The prompt of the rollout of this number, from the first on: each pass over the rows has an order of its own."""
        turn, place = divmod(number, len(self._given.rows))
        row = int(_permutation(self._seed, turn, len(self._given.rows))[place])
        seed = int(_generator(self._seed, number, _SAMPLING).integers(2**63))
        return self._writing.prompt(self._given.rows[row].ids[: self._given.prompts[row]].tolist(), seed)

    def _drawn(self, step: int, count: int) -> list[TokenRow]:
        """The next of the fresh rollouts, which come round in an order that is drawn at each refresh: each as often as the others."""
        fresh, (refreshes, since) = self.buffer.fresh(step), divmod(step, self._spec.refresh)
        order = _generator(self._seed, refreshes, _ORDER).permutation(len(fresh))
        places: NDArray[np.int64] = (since * self._a_step + np.arange(count)) % len(fresh)
        return [fresh[int(order[place])].row for place in places]


def _generator(seed: int, number: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng((seed, number, purpose))


@lru_cache(maxsize=1)
def _permutation(seed: int, turn: int, rows: int) -> NDArray[np.int64]:
    return _generator(seed, turn, _PROMPTS).permutation(rows)

"""The student answers prompts while it is being trained, and training goes on as if it had not been asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from potstill.models.decoding import Prompt
from potstill.training.on_policy.buffer import Rollout

if TYPE_CHECKING:
    from potstill.models.transformers_local import TransformersModel


@dataclass(frozen=True)
class Writing:
    """How the student writes: at `temperature`, from the `top_p` likeliest, `max_new_tokens` at most, in rows of at most `max_length`."""

    temperature: float
    top_p: float
    max_new_tokens: int
    max_length: int

    def prompt(self, ids: Sequence[int], seed: int) -> Prompt:
        """What is asked with these ids."""
        return Prompt(ids, min(self.max_new_tokens, self.max_length - len(ids)), self.temperature, self.top_p, seed)


def write(model: TransformersModel, prompts: Sequence[Prompt], step: int, *, unknown: NDArray[np.int64] | None = None) -> list[Rollout]:
    """What the model's weights as they are now make of each prompt, in order; asked in batches of like length.

    It ends before the first of the tokens that are `unknown` to the teacher who is to read it.
    The weights are those that are trained, not a copy. They run in eval mode and without gradients; their mode and torch's random numbers
    are as before afterwards. Raises ModelError where memory does not hold one prompt.
    """
    module, order = model.module, sorted(range(len(prompts)), key=lambda place: len(prompts[place].ids))
    was_training = module.training
    found: dict[int, Rollout] = {}
    module.eval()
    try:
        with torch.random.fork_rng():
            for start in range(0, len(order), model.batch_size):
                places = order[start : start + model.batch_size]
                for place, written in zip(places, model.generate([prompts[place] for place in places]), strict=True):
                    asked = list(prompts[place].ids)
                    # Where to stop is the student's decision too, and the teacher has a say in it.
                    stop = [] if written.stop_id is None else [written.stop_id]
                    text = _known(np.array([*written.ids, *stop], dtype=np.int32), unknown)
                    found[place] = Rollout(np.concatenate([np.array(asked, dtype=np.int32), text]), len(asked), step)
    finally:
        module.train(was_training)
    return [found[place] for place in range(len(prompts))]


def _known(ids: NDArray[np.int32], unknown: NDArray[np.int64] | None) -> NDArray[np.int32]:
    if unknown is None or not (is_foreign := np.isin(ids, unknown)).any():
        return ids
    return ids[: is_foreign.argmax()]

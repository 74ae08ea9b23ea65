"""Writing answers token by token: a batch of prompts, each with its own limit, temperature and seed."""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from potstill.models.shared_prefix import Prefix, attending_to

# A batch is packed anew when this share of its rows has ended; packing copies the cache, so not at every end.
_PACK_AT = 0.25


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to continue, and how. `ended` says of the new ids whether a stop string came; None: there are none.

    Above temperature 0, one uniform number a token is drawn from `seed` and turned into a token by the inverse of the cumulative
    distribution, so what a prompt draws does not depend on the prompts beside it (but for rounding in the batch's products).
    `top` of the likeliest tokens are noted at each place.
    """

    ids: Sequence[int]
    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    ended: Callable[[list[int]], bool] | None = None
    top: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """One written token, the stop token included: its natural log-probability at temperature 1, and the likeliest tokens there."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Continuation:
    """The new ids, without the stop token; `stopped` where a stop token or string ended them, not the limit."""

    ids: list[int]
    stopped: bool
    tokens: int
    """How many were written, the stop token included."""
    stop_id: int | None = None
    """The stop token that ended them; None where none did."""
    first_s: float | None = field(default=None, compare=False)
    """Seconds until the batch had its first tokens: reading the prompts, and one step."""
    places: tuple[Place, ...] = field(default=(), compare=False, repr=False)
    """The tokens with their probabilities, where the prompt asked for them."""


@torch.inference_mode()
def decode(
    module: Any,
    prompts: Sequence[Prompt],
    stop_ids: Sequence[int],
    *,
    prefix: Prefix | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Continuation]:
    """Continue each prompt until a stop token or its limit; greedy at temperature 0.

    The batch is padded on the left; rows that have ended leave it where the cache allows, so that a batch costs what its living
    rows cost. `prefix` is the beginning of all prompts, where that was read already.
    """
    with attending_to(module, prefix) as besides:
        return _decode(module, prompts, stop_ids, read=len(prefix or ()), besides=besides, cancelled=cancelled)


def _decode(
    module: Any,
    prompts: Sequence[Prompt],
    stop_ids: Sequence[int],
    *,
    read: int,
    besides: dict[str, Any],
    cancelled: Callable[[], bool],
) -> list[Continuation]:
    writers = [_Writer(prompt, frozenset(stop_ids)) for prompt in prompts]
    rows = [writer for writer in writers if writer.open]
    ids_BT, mask_BT = _pad_left([writer.prompt.ids[read:] for writer in rows], module.device)
    cache = DynamicCache(config=module.config)
    takes = inspect.signature(module.forward).parameters
    last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
    # State-space models look at no earlier token again: they call their state otherwise, and want the new tokens' mask alone.
    recurrent = "cache_params" in takes and "past_key_values" not in takes
    state = {"cache_params" if recurrent else "past_key_values": cache}
    alive = list(range(len(rows)))
    started, first_s = time.perf_counter(), None
    while alive and not cancelled():
        positions_BT = (read + mask_BT.cumsum(1) - 1).clamp(min=0)[:, -ids_BT.shape[1] :]
        seen_BT = mask_BT[:, -ids_BT.shape[1] :] if recurrent else mask_BT
        out = module(input_ids=ids_BT, attention_mask=seen_BT, position_ids=positions_BT, use_cache=True, **state, **last_only, **besides)
        logits_BV = out.logits[:, -1].float()
        chosen = _choose(logits_BV, rows)
        first_s = first_s or time.perf_counter() - started
        _note(logits_BV, chosen, rows)
        for writer, token in zip(rows, chosen, strict=True):
            writer.take(token)
        alive = [row for row, writer in enumerate(rows) if writer.open]
        if len(alive) <= len(rows) * (1 - _PACK_AT) and _can_pack(cache):
            kept = torch.tensor(alive, dtype=torch.long, device=mask_BT.device)
            cache.batch_select_indices(kept)
            mask_BT = mask_BT[kept]
            rows, chosen = [rows[row] for row in alive], [chosen[row] for row in alive]
            alive = list(range(len(rows)))
        ids_BT = torch.tensor(chosen, device=mask_BT.device)[:, None]
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(rows), 1)], dim=1)
    return [writer.continuation(first_s) for writer in writers]


def _can_pack(cache: DynamicCache) -> bool:
    """Whether rows can be taken out of every layer's state; those of state-space and convolution layers (Mamba, LFM2) cannot yet."""
    return all(hasattr(layer, "batch_select_indices") for layer in cache.layers)


class _Writer:
    """One prompt's answer as it grows."""

    def __init__(self, prompt: Prompt, stops: frozenset[int]) -> None:
        self.prompt = prompt
        self.open = prompt.max_new_tokens > 0
        self._stops = stops
        self._ids: list[int] = []
        self._tokens = 0
        self._stopped = False
        self._stop_id: int | None = None
        self._random = random.Random(prompt.seed)
        self.places: list[Place] = []

    def take(self, token: int) -> None:
        if not self.open:
            return
        self._tokens += 1
        if token in self._stops:
            self._stopped, self._stop_id = True, token
        else:
            self._ids.append(token)
            self._stopped = self.prompt.ended is not None and self.prompt.ended(self._ids)
        self.open = not self._stopped and self._tokens < self.prompt.max_new_tokens

    def uniform(self) -> float:
        return self._random.random()

    def continuation(self, first_s: float | None) -> Continuation:
        return Continuation(self._ids, self._stopped, self._tokens, self._stop_id, first_s, tuple(self.places))


def _pad_left(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    width = max((len(ids) for ids in prompts), default=0)
    # The padding's ids are masked; 0 is an id of every model.
    ids = [[0] * (width - len(ids)) + list(ids) for ids in prompts]
    mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _choose(logits_BV: Tensor, rows: Sequence[_Writer]) -> list[int]:
    greedy: list[int] = logits_BV.argmax(1).tolist()
    drawn = [row for row, writer in enumerate(rows) if writer.prompt.temperature > 0]
    if not drawn:
        return greedy
    options = logits_BV.new_tensor([(rows[r].prompt.temperature, rows[r].prompt.top_p, rows[r].uniform()) for r in drawn])
    tokens = draw(logits_BV[drawn], options[:, :1], options[:, 1:2], options[:, 2:])
    for row, token in zip(drawn, tokens.tolist(), strict=True):
        greedy[row] = token
    return greedy


def _note(logits_BV: Tensor, chosen: Sequence[int], rows: Sequence[_Writer]) -> None:
    """Write down the probabilities of rows that are open and ask for them."""
    asking = [row for row, writer in enumerate(rows) if writer.open and writer.prompt.top]
    if not asking:
        return
    most = max(rows[row].prompt.top for row in asking)
    logits_RV = logits_BV[asking]
    total_R1 = logits_RV.logsumexp(1, keepdim=True)
    best_RK, tokens_RK = logits_RV.topk(min(most, logits_RV.shape[1]), dim=1)
    own_R1 = logits_RV.gather(1, logits_RV.new_tensor([chosen[row] for row in asking], dtype=torch.long)[:, None])
    found = zip(asking, tokens_RK.tolist(), (best_RK - total_R1).tolist(), (own_R1 - total_R1)[:, 0].tolist(), strict=True)
    for row, tokens, logprobs, own in found:
        top = list(zip(tokens, logprobs, strict=True))[: rows[row].prompt.top]
        rows[row].places.append(Place(chosen[row], own, tuple(top)))


def draw(logits_BV: Tensor, temperature_B1: Tensor, top_p_B1: Tensor, uniform_B1: Tensor) -> Tensor:
    """Tokens (B,) drawn by nucleus sampling (Holtzman et al. 2019, arXiv 1904.09751) from uniform numbers in [0, 1)."""
    sorted_BV, tokens_BV = (logits_BV / temperature_B1).softmax(1).sort(1, descending=True)
    before_BV = sorted_BV.cumsum(1) - sorted_BV
    kept_BV = sorted_BV.where(before_BV < top_p_B1, 0.0)
    cumulative_BV = kept_BV.cumsum(1)
    place_B1 = (cumulative_BV <= uniform_B1 * cumulative_BV[:, -1:]).sum(1, keepdim=True)
    # Rounding may carry the number past the last kept token.
    last_B1 = (kept_BV > 0).sum(1, keepdim=True) - 1
    return tokens_BV.gather(1, torch.minimum(place_B1, last_B1))[:, 0]

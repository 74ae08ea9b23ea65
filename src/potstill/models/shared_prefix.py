"""The beginning that all prompts of a batch share (a system prompt, a list of labels, worked examples), read once for all of them.

Its keys and values are kept once, not once a row: attention to them is one product over all rows (cascade inference; Ye et al. 2024,
flashinfer.ai/2024/02/02/cascade-inference.html; Juravsky et al. 2024, "Hydragen", arXiv 2402.05099).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.masking_utils import eager_mask

_NAME = "potstill_shared_prefix"
_FAMILIES = frozenset({"llama", "mistral", "qwen2", "qwen3", "phi3", "smollm3", "olmo2", "granite"})
"""Architectures with rotary positions and plain attention, whose attention is a function of its own that can be put in its place."""
_LEAST = 16
"""Tokens; of a shorter beginning nothing is gained."""
_SCORES = 1 << 25
"""So many attention scores are in memory at once, at most; rows are attended to in lots."""


@dataclass(frozen=True, eq=False)
class Prefix:
    """A beginning that was read: its ids, and each layer's keys and values (1, heads, P, d)."""

    ids: tuple[int, ...]
    layers: tuple[tuple[Tensor, Tensor], ...]

    def __len__(self) -> int:
        return len(self.ids)


def shared_ids(module: Any, prompts: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The beginning that is worth reading once for these prompts; empty where none is, or where the model cannot take it so.

    It follows from the prompts alone, and leaves each at least its last token. It is worth it where it is a third of all prompts at
    least: attention is otherwise faster by the model's own function.
    """
    if len(prompts) < 2:
        return ()
    shortest, longest = min(map(len, prompts)), max(map(len, prompts))
    first, last = min(map(list, prompts)), max(map(list, prompts))  # by their tokens, so that these two differ first
    same = next((place for place in range(min(len(first), len(last))) if first[place] != last[place]), shortest)
    same = min(same, shortest - 1)
    if same < _LEAST or 2 * same < longest - same or not _takes_it(module, longest):
        return ()
    return tuple(prompts[0][:same])


@torch.inference_mode()
def read_prefix(module: Any, ids: tuple[int, ...]) -> Prefix:
    """Read a beginning by itself."""
    cache = DynamicCache(config=module.config)
    module(input_ids=torch.tensor([ids], device=module.device), past_key_values=cache, use_cache=True, logits_to_keep=1)
    return Prefix(ids, tuple((layer.keys, layer.values) for layer in cache.layers))


@contextmanager
def attending_to(module: Any, prefix: Prefix | None) -> Iterator[dict[str, Any]]:
    """While it lasts, the model attends to `prefix` before all that it is given; yields what each call is given besides."""
    if prefix is None:
        yield {}
        return
    before = module.config._attn_implementation
    module.config._attn_implementation = _NAME
    try:
        yield {"shared_prefix": prefix}
    finally:
        module.config._attn_implementation = before


def _takes_it(module: Any, longest: int) -> bool:
    config = module.config
    if not type(module).__module__.startswith("transformers."):
        return False  # a folder's own code, or a wrapper, may take no further arguments
    if config.model_type not in _FAMILIES or any(type(layer) is not DynamicLayer for layer in DynamicCache(config=config).layers):
        return False
    rope = getattr(config, "rope_parameters", None) or {}
    # Such positions are turned otherwise once a prompt is longer than this; the beginning was not.
    limit = rope.get("original_max_position_embeddings") if rope.get("rope_type") in ("dynamic", "longrope") else None
    return limit is None or 2 * longest <= limit


def _attend(
    module: Any,
    query_BHTD: Tensor,
    key_BKSD: Tensor,
    value_BKSD: Tensor,
    mask_B1TS: Tensor,
    *,
    scaling: float,
    shared_prefix: Prefix,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention of each row to the prefix and to its own tokens (K key heads, each for H/K query heads); (B, T, H, D)."""
    rows, heads, length = query_BHTD.shape[:3]
    prefix_key, prefix_value = shared_prefix.layers[module.layer_idx]
    own, shared = key_BKSD.shape[2], len(shared_prefix)
    lot = max(1, _SCORES // (heads * length * (own + shared)))
    found = [
        _attend_lot(
            query_BHTD[start : start + lot],
            (key_BKSD[start : start + lot], value_BKSD[start : start + lot]),
            (prefix_key[0], prefix_value[0]),
            mask_B1TS[start : start + lot, :, :, :own],
            scaling,
        )
        for start in range(0, rows, lot)
    ]
    out_BHTD = found[0] if len(found) == 1 else torch.cat(found)
    return out_BHTD.transpose(1, 2), None


def _attend_lot(query_BHTD: Tensor, own: tuple[Tensor, Tensor], shared: tuple[Tensor, Tensor], mask_B1TS: Tensor, scaling: float) -> Tensor:
    (rows, heads, length, size), (key_BKSD, value_BKSD), (key_KPD, value_KPD) = query_BHTD.shape, own, shared
    key_heads, count = key_KPD.shape[0], key_KPD.shape[1]
    group = heads // key_heads
    query = (query_BHTD * scaling).reshape(rows, key_heads, group * length, size)
    query_KQD = query.transpose(0, 1).reshape(key_heads, rows * group * length, size)
    to_shared = (query_KQD @ key_KPD.transpose(1, 2)).view(key_heads, rows, group * length, count).transpose(0, 1)
    to_own = query @ key_BKSD.transpose(2, 3) + mask_B1TS.repeat(1, 1, group, 1)
    weights = torch.cat([to_shared, to_own], dim=-1).softmax(-1, dtype=torch.float32).to(query.dtype)
    weights_KQP = weights[..., :count].transpose(0, 1).reshape(key_heads, rows * group * length, count)
    out = (weights_KQP @ value_KPD).view(key_heads, rows, group * length, size).transpose(0, 1)
    out = out + weights[..., count:] @ value_BKSD
    return out.reshape(rows, heads, length, size)


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, eager_mask)

"""What goes on inside a model while it reads: hidden states, attention maps, queries, keys and values of chosen layers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from potstill.errors import CapabilityError
from potstill.training.carve import layer_stack
from potstill.training.head import backbone

Part = Literal["hidden", "attention", "query", "key", "value"]
"""`hidden`: what a layer hands on (B, T, D). `attention`: its probabilities (B, H, T, T). `query`, `key`, `value`: what its projections
give (B, T, heads · width), before a norm of heads and before positions are turned in; keys and values as many as there are (grouped-query
attention has fewer of them than of queries)."""

States = dict[tuple[int, Part], Tensor]
"""By layer and part."""

_Take = Callable[[Any], Any]
_SEPARATE: dict[Part, str] = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}
_FUSED = "qkv_proj"


class Capture:
    """Listens to `parts` of `layers` of a causal language model of transformers, only while somebody watches.

    Raises CapabilityError where the model has no such layers, or keeps them where training does not find them.
    """

    def __init__(self, module: Any, layers: Sequence[int], parts: Sequence[Part]) -> None:
        stack = layer_stack(module)
        if stack is None:
            raise CapabilityError(f"{type(module).__name__} holds no list of its layers, so they cannot be matched; choose another model")
        found = module.get_submodule(stack)
        self._taps = [((layer, part), *_tap(found[layer], part, layer)) for layer in dict.fromkeys(layers) for part in parts]

    @contextlib.contextmanager
    def watching(self) -> Iterator[States]:
        """What is seen until the block ends; with its gradients, where there are any. No hook stays on the model afterwards."""
        states: States = {}
        hooks = [place.register_forward_hook(_keeping(states, key, take)) for key, place, take in self._taps]
        try:
            yield states
        finally:
            for hook in hooks:
                hook.remove()


def _keeping(states: States, key: tuple[int, Part], take: _Take) -> Callable[..., None]:
    def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
        found = take(output)
        if found is None:
            raise CapabilityError(
                f"layer {key[0]} shows no attention probabilities: it has another kind of attention than `eager`; set "
                "`training.features.attention: none`"
            )
        states[key] = found

    return hook


def _tap(layer: nn.Module, part: Part, number: int) -> tuple[nn.Module, _Take]:
    """Which module shows a part of a layer, and how it is taken from what that module puts out."""
    if part == "hidden":
        return layer, lambda output: output[0] if isinstance(output, tuple) else output
    attention = _attention(layer, number)
    if part == "attention":
        return attention, lambda output: output[1] if isinstance(output, tuple) and len(output) > 1 else None
    if hasattr(attention, _FUSED):
        columns = _columns(attention, part)
        return getattr(attention, _FUSED), lambda output: output[..., columns]
    return getattr(attention, _SEPARATE[part]), lambda output: output


def _attention(layer: nn.Module, number: int) -> Any:
    for child in layer.children():
        # Who names no key and value heads lays the three out otherwise (CodeGen).
        is_fused = hasattr(child, _FUSED) and hasattr(child, "num_key_value_heads")
        if is_fused or all(hasattr(child, name) for name in _SEPARATE.values()):
            return child
    raise CapabilityError(
        f"layer {number} ({type(layer).__name__}) has no attention whose queries, keys and values training knows; match hidden states "
        "alone, or choose other layers in `training.features.layers`"
    )


def _columns(attention: Any, part: Part) -> slice:
    """Where a part stands in what one projection gives for all three, queries first (Phi-3 and later)."""
    settings = attention.config
    queries, others = settings.num_attention_heads * attention.head_dim, settings.num_key_value_heads * attention.head_dim
    begin = {"query": 0, "key": queries, "value": queries + others}[part]
    return slice(begin, begin + (queries if part == "query" else others))


def show_attention(module: Any) -> None:
    """Have a model compute its attention so that probabilities are seen. Raises CapabilityError where they are seen after dropout."""
    settings = module.config.get_text_config()
    if getattr(settings, "attention_dropout", 0.0):
        raise CapabilityError(
            f"{type(module).__name__} drops out attention (`attention_dropout` {settings.attention_dropout} in its config.json), and maps "
            "are seen after that; set it to 0, or `training.features.attention: none`"
        )
    module.set_attn_implementation("eager")


def try_out(module: Any, layers: Sequence[int], parts: Sequence[Part]) -> States:
    """What `parts` of `layers` look like over a few tokens. Raises what Capture raises, and what is wrong with them."""
    was_training = module.training
    module.eval()
    ids_1T = torch.arange(4, device=module.device)[None]
    with torch.no_grad(), Capture(module, layers, parts).watching() as states:
        backbone(module)(input_ids=ids_1T, use_cache=False)
    module.train(was_training)
    return states

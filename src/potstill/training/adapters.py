"""Low-rank adapters: a few trained weights beside frozen ones, merged into them where the student is kept."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from potstill.errors import ModelError
from potstill.spec.sections import LoraSpec

if TYPE_CHECKING:
    from torch import Tensor

_FROZEN = ".base_layer."
"""Stands in the name of a frozen weight that an adapter lies beside."""


def add_adapters(module: Any, spec: LoraSpec, seed: int = 0) -> Any:
    """The module with adapters put into it, its own weights frozen; `module` itself answers with them from now on.

    W becomes W + (alpha / rank) B A (Hu et al. 2022, arXiv 2106.09685); B starts at zero, A is drawn with `seed`. Raises ModelError
    where the model has no layer of a name that `spec` gives.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    wanted = "all-linear" if spec.modules == "all" else list(spec.modules)
    config = LoraConfig(r=spec.rank, lora_alpha=spec.alpha, lora_dropout=spec.dropout, target_modules=wanted)
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that it is about to drop
            torch.manual_seed(seed)
            return get_peft_model(module, config)
    except ValueError as error:
        raise ModelError(f"`training.lora.modules`: {type(module).__name__} has no such layers ({error}); take `all`") from None


def plain_state(module: Any) -> dict[str, Tensor]:
    """The weights as the model has them without adapters, those merged in; without adapters, its own."""
    adapted = {name: layer for name, layer in module.named_modules() if hasattr(layer, "get_delta_weight")}
    state: dict[str, Tensor] = module.state_dict()
    found = {name.replace(_FROZEN, "."): tensor for name, tensor in state.items() if ".lora_" not in name}
    for name, layer in adapted.items():
        weight = found[f"{name}.weight"]
        found[f"{name}.weight"] = weight + layer.get_delta_weight("default").to(weight.dtype)
    return found

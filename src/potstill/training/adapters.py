"""Low-rank adapters: a few trained weights beside frozen ones, merged into them where the student is kept."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
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
    where the model has no linear layer of a name that `spec` gives.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    problem = lacking_layers(spec, linear_layers(module), type(module).__name__)
    if problem is not None:
        raise ModelError(problem)
    wanted = "all-linear" if spec.modules == "all" else list(spec.modules)
    config = LoraConfig(r=spec.rank, lora_alpha=spec.alpha, lora_dropout=spec.dropout, target_modules=wanted)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that it is about to drop
        torch.manual_seed(seed)
        return get_peft_model(module, config)


def linear_layers(module: Any) -> list[str]:
    """The names of a model's linear layers but its head, which is trained whole or not at all."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    head = module.get_output_embeddings()
    return [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear | Conv1D) and layer is not head]


def lacking_layers(spec: LoraSpec, layers: Iterable[str], model: str) -> str | None:
    """What is wrong with the names that `spec` gives, of a model with these linear `layers`; None where each means some of them.

    A name means the layers that are called so, or end so after a point. peft passes over one that means nothing where another means
    something.
    """
    if spec.modules == "all":
        return None
    layers = list(layers)
    lacking = [wanted for wanted in spec.modules if not any(f".{layer}".endswith(f".{wanted}") for layer in layers)]
    if not lacking:
        return None
    there = dict.fromkeys(layer.rpartition(".")[2] for layer in layers)
    return (
        f"`training.lora.modules` names {', '.join(lacking)}, but {model} has no linear layer called so (and its head takes no adapter): "
        f"take some of {', '.join(there)}, or `all`"
    )


def plain_state(module: Any) -> dict[str, Tensor]:
    """The weights as the model has them without adapters, those merged in; without adapters, its own."""
    adapted = {name: layer for name, layer in module.named_modules() if hasattr(layer, "get_delta_weight")}
    state: dict[str, Tensor] = module.state_dict()
    found = {name.replace(_FROZEN, "."): tensor for name, tensor in state.items() if ".lora_" not in name}
    for name, layer in adapted.items():
        weight = found[f"{name}.weight"]
        found[f"{name}.weight"] = weight + layer.get_delta_weight("default").to(weight.dtype)
    return found

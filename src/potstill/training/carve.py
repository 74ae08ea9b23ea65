"""Cutting a smaller model out of a larger one: some of its layers, some of its vocabulary, all else as it was."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from potstill.errors import ModelError, SpecError

Ids = NDArray[np.int64]


def evenly_spaced(count: int, layers: int) -> tuple[int, ...]:
    """Which `layers` of `count` layers stay: evenly spaced, the first and the last among them (the first alone, if one stays).

    Raises SpecError where more are asked for than there are.
    """
    if layers > count:
        raise SpecError(f"student.carve.layers: {layers} layers are asked for, but the model has {count}; ask for 1 to {count}")
    return tuple(int(place) for place in np.linspace(0, count - 1, layers).round())


def carve(module: Any, layers: Sequence[int], kept_ids: Ids | None = None) -> Any:
    """A new model of the same class with these layers, and, where `kept_ids` (V,) are given, with these rows of the vocabulary.

    Weights are copied. Per-layer lists of the config (attention types, rotary switches) follow the layers; ids of special
    tokens follow the vocabulary. Raises ModelError where the architecture has parts that this cannot place.
    """
    stack = layer_stack(module)
    if stack is None:
        count = module.config.get_text_config().num_hidden_layers
        raise ModelError(f"{type(module).__name__} cannot be carved: it holds no list of {count} layers; name a student in `student.model`")
    config = carved_config(module.config, layers, kept_ids)
    with torch.random.fork_rng():
        student = type(module)._from_config(config, dtype=module.dtype)
    state = {}
    tables = _vocabulary_tables(module) if kept_ids is not None else frozenset()
    for name, tensor in module.state_dict().items():
        target = _renamed(name, stack, layers)
        if target is not None:
            state[target] = _rows(tensor, kept_ids) if kept_ids is not None and name in tables else tensor
    _load(student, state)
    student.generation_config = copy.deepcopy(module.generation_config)
    if kept_ids is not None:
        remap_special_ids(student.generation_config, kept_ids)
    return student.eval()


def carved_config(config: Any, layers: Sequence[int], kept_ids: Ids | None = None) -> Any:
    """A copy of a model's config for fewer layers and, where `kept_ids` are given, fewer tokens."""
    carved = copy.deepcopy(config)
    # Of a model that sees images too, the part that reads and writes text; else the whole.
    text = carved.get_text_config()
    count = text.num_hidden_layers
    for name, value in list(vars(text).items()):
        if "layer" in name and isinstance(value, list | tuple) and len(value) == count:
            setattr(text, name, [value[layer] for layer in layers])
    text.num_hidden_layers = len(layers)
    if kept_ids is not None:
        text.vocab_size = len(kept_ids)
        for part in _parts(carved):
            remap_special_ids(part, kept_ids)
    return carved


def special_ids(config: Any) -> set[int]:
    """Every token id that a model's or its generation's config names."""
    found: set[int] = set()
    for part in _parts(config):
        for value in _special_fields(part).values():
            found.update(value if isinstance(value, list | tuple) else [value])
    return found


def remap_special_ids(config: Any, kept_ids: Ids) -> None:
    """Rewrite the token ids that a config names: the old id kept_ids[i] becomes i. Ids that were never a token become None."""
    new_id = {int(old): new for new, old in enumerate(kept_ids)}
    for name, value in _special_fields(config).items():
        if isinstance(value, list | tuple):
            setattr(config, name, [new_id[old] for old in value if old in new_id])
        else:
            setattr(config, name, new_id.get(value))


def _parts(config: Any) -> list[Any]:
    """A config, and the one of its text part where that stands apart."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return [config] if text is config else [config, text]


def _special_fields(config: Any) -> dict[str, Any]:
    endings = ("_token_id", "_token_ids", "_token_index", "suppress_tokens")
    named = {name: value for name, value in vars(config).items() if name.endswith(endings)}
    return {name: value for name, value in named.items() if _is_id(value) or (isinstance(value, list | tuple) and all(map(_is_id, value)))}


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def layer_stack(module: Any) -> str | None:
    """The name of the list of layers, as `model.layers`; None where there is none."""
    count = module.config.get_text_config().num_hidden_layers
    names: list[str] = [name for name, child in module.named_modules() if isinstance(child, nn.ModuleList) and len(child) == count]
    return min(names, key=lambda name: name.count("."), default=None)


def _renamed(name: str, stack: str, layers: Sequence[int]) -> str | None:
    if not name.startswith(f"{stack}."):
        return name
    number, _, rest = name.removeprefix(f"{stack}.").partition(".")
    return f"{stack}.{layers.index(int(number))}.{rest}" if int(number) in layers else None


def _vocabulary_tables(module: Any) -> frozenset[str]:
    """Names of all tensors with a row a token: embedding, head, the head's bias, tied or not."""
    wanted = {id(parameter) for part in (module.get_input_embeddings(), module.get_output_embeddings()) for parameter in part.parameters()}
    return frozenset(name for name, parameter in module.named_parameters(remove_duplicate=False) if id(parameter) in wanted)


def _rows(table: Tensor, kept_ids: Ids) -> Tensor:
    return table[torch.from_numpy(kept_ids).to(table.device)]


def _load(student: Any, state: dict[str, Tensor]) -> None:
    expected = student.state_dict()
    wrong = sorted(set(expected) ^ set(state) | {name for name in set(expected) & set(state) if expected[name].shape != state[name].shape})
    if wrong:
        raise ModelError(
            f"{type(student).__name__} cannot be carved: {len(wrong)} of its tensors belong neither to a layer nor to the whole "
            f"(as {wrong[0]}); name a student in `student.model`"
        )
    student.load_state_dict(state)
    student.tie_weights()

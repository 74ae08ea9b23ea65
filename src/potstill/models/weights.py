"""Loading a local model: weights and tokenizer, from a folder, a GGUF file, the hub or the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from potstill.errors import ModelError
from potstill.models.locate import is_local, locate
from potstill.models.reading import Reading, Weights, quiet_transformers, read_identity, read_tokenizer, read_weights, require_torch
from potstill.spec.sections import WeightsSpec

__all__ = [
    "Weights",
    "is_local",
    "load_config",
    "load_tokenizer",
    "load_weights",
    "quiet_transformers",
    "read_template",
    "require_torch",
    "weights_identity",
]


def load_weights(weights: WeightsSpec) -> Weights:
    """Load a model for inference (`eval` mode), with its tokenizer.

    Pickles are refused, and a model folder's own Python code runs only where the spec says `trust_remote_code`. A GGUF file
    is dequantised, and can be saved and trained as any other. Raises ModelError with what to do.
    """
    require_torch(str(weights.model))
    return read_weights(locate(weights), _reading(weights))


def weights_identity(weights: WeightsSpec) -> str:
    """The `identity` that `load_weights` would give, without loading anything. Raises ModelError where there is no such model."""
    require_torch(str(weights.model))
    return read_identity(locate(weights), _reading(weights))


def load_tokenizer(weights: WeightsSpec) -> Any:
    """A model's tokenizer alone. Raises ModelError with what to do."""
    require_torch(str(weights.model))
    return read_tokenizer(locate(weights), weights.trust_remote_code)


def load_config(weights: WeightsSpec) -> Any:
    """The transformers config of a model folder that is known to be sound."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(locate(weights), trust_remote_code=weights.trust_remote_code, local_files_only=True)


def _reading(weights: WeightsSpec) -> Reading:
    return Reading(weights.dtype, weights.device, read_template(weights.chat_template), weights.trust_remote_code)


def read_template(path: Path | None) -> str | None:
    """The text of a spec's `chat_template`. Raises ModelError where the file cannot be read, or is empty."""
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        reason = f"it cannot be read: {(error.strerror or str(error)).lower()}"
    except UnicodeDecodeError as error:
        reason = f"it is not UTF-8 (byte {error.start}); save it as UTF-8"
    else:
        if text.strip():
            return text
        reason = "it is empty"
    raise ModelError(f"{path}: `chat_template` names this file, but {reason}")

"""Loading a local model: weights and tokenizer, from a folder, a GGUF file, the hub or the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from potstill.errors import ModelError
from potstill.models.locate import is_local, locate
from potstill.models.reading import Reading, Weights, quiet_transformers, read_tokenizer, read_weights, require_torch
from potstill.spec.sections import WeightsSpec

__all__ = ["Weights", "is_local", "load_tokenizer", "load_weights", "quiet_transformers", "read_template", "require_torch"]


def load_weights(weights: WeightsSpec) -> Weights:
    """Load a model for inference (`eval` mode), with its tokenizer.

    Pickles are refused, and a model folder's own Python code runs only where the spec says `trust_remote_code`. A GGUF file
    is dequantised, and can be saved and trained as any other. Raises ModelError with what to do.
    """
    require_torch(str(weights.model))
    template = read_template(weights.chat_template)
    return read_weights(locate(weights), Reading(weights.dtype, weights.device, template, weights.trust_remote_code))


def load_tokenizer(weights: WeightsSpec) -> Any:
    """A model's tokenizer alone. Raises ModelError with what to do."""
    require_torch(str(weights.model))
    return read_tokenizer(locate(weights), weights.trust_remote_code)


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

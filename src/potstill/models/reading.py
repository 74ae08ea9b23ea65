"""Reading weights and tokenizer from a folder or a GGUF file into memory."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.errors import ModelError
from potstill.models.architecture import causal_classes
from potstill.models.folder import check_folder, identity, read_config
from potstill.models.gguf_header import read_gguf_header

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Weights:
    """A loaded model. `folder` is where it was loaded from, None for a GGUF file; `identity` is a hash of all that answers depend on."""

    module: Any
    tokenizer: Any
    folder: Path | None
    identity: str


@dataclass(frozen=True)
class Reading:
    """How to read: number format, device, a chat template in place of the tokenizer's, and whether a folder's own code may run."""

    dtype: str = "auto"
    device: str = "auto"
    template: str | None = None
    trusted: bool = False


def read_weights(path: Path, reading: Reading) -> Weights:
    """Load the model folder or GGUF file at `path` for inference (`eval` mode). Raises ModelError."""
    require_torch(str(path))
    from transformers import AutoConfig

    device = find_device(reading.device)
    dtype = _dtype(reading.dtype, device)
    if path.is_dir():
        check_folder(path)
        check_architecture(path, reading.trusted)
        with _in_words(f"{path / 'config.json'}: cannot be used"), quiet_transformers():
            AutoConfig.from_pretrained(path, trust_remote_code=reading.trusted, local_files_only=True)
    with quiet_transformers():
        tokenizer = read_tokenizer(path, reading.trusted)
        module = _load_gguf(path, dtype) if path.is_file() else _load_folder(path, dtype, reading.trusted)
    if reading.template is not None:
        tokenizer.chat_template = reading.template
    _check_fit(path, module, tokenizer)
    try:
        module = module.to(device).eval()
    except RuntimeError as error:
        raise ModelError(f"{path}: does not fit on {device}: {_first_line(error)}; choose a smaller model, or `device: cpu`") from None
    return Weights(module, tokenizer, path if path.is_dir() else None, read_identity(path, reading))


def read_empty(path: Path, trusted: bool) -> Any:
    """The module of a model folder or GGUF file without its weights (on torch's meta device): its layers and their names, in a moment.

    Raises ModelError where transformers cannot build it.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    where, settings = (path.parent, {"gguf_file": path.name}) if path.is_file() else (path, {})
    with _in_words(f"{path}: cannot be built"), quiet_transformers(), torch.device("meta"):
        config = AutoConfig.from_pretrained(where, trust_remote_code=trusted, local_files_only=True, **settings)
        return AutoModelForCausalLM.from_config(config, trust_remote_code=trusted)


def read_identity(path: Path, reading: Reading) -> str:
    """The `identity` of what `read_weights` would load, without loading it. Raises ModelError where the device is not to be had."""
    dtype = _dtype(reading.dtype, find_device(reading.device))
    return identity(path, dtype=str(dtype), template=reading.template or "")


def require_torch(what: str) -> None:
    """Raise ModelError where the packages that local models need are not installed."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModelError(f"{what}: local models need {error.name}: pip install 'potstill[train]'") from None


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars and loading reports off the terminal: what matters is raised."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def find_device(name: str) -> torch.device:
    """The torch device of a spec's `device`. Raises ModelError where this machine has none of that name."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(f'device "{name}" is not to be had here: {_first_line(error)}; use `device: auto` or `cpu`') from None
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    import torch

    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float32


def check_architecture(folder: Path, trusted: bool) -> None:
    """Raise ModelError unless the installed transformers writes text with the folder's architecture, or its own code may run."""
    config, classes = read_config(folder), causal_classes()
    kind = config.get("model_type")
    if trusted or not classes or kind in classes:
        return
    if "auto_map" in config:
        raise ModelError(
            f"{folder}: architecture {kind!r} brings Python code of its own; read it, then set `trust_remote_code: true` to run it"
        )
    reason = "is not one that the installed transformers can write text with; upgrade it, or choose another model"
    raise ModelError(f"{folder}: architecture {kind!r} {reason}")


def read_tokenizer(path: Path, trusted: bool) -> Any:
    """The tokenizer of the model folder or GGUF file at `path`. Raises ModelError."""
    from transformers import AutoTokenizer

    if path.is_dir():
        check_folder(path)
    else:
        read_gguf_header(path)
    where, settings = (path.parent, {"gguf_file": path.name}) if path.is_file() else (path, {})
    with _in_words(f"{path}: its tokenizer cannot be loaded"), quiet_transformers(), contextlib.redirect_stderr(io.StringIO()):
        tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=trusted, local_files_only=True, **settings)
    # How it was loaded is no property of the tokenizer, but would be saved with it.
    tokenizer.init_kwargs.pop("local_files_only", None)
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is not None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _load_folder(folder: Path, dtype: torch.dtype, trusted: bool) -> Any:
    from transformers import AutoModelForCausalLM

    with _in_words(f"{folder}: cannot be loaded"):
        module, report = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, trust_remote_code=trusted, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(
            f"{folder}: {len(missing)} tensors that {type(module).__name__} needs are not in its weights, {missing[0]} first; "
            "copy or download the weights again, or check `architectures` in config.json"
        )
    return module


def _load_gguf(path: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    # Its progress bar is a bare tqdm, which knows no other way to be quiet.
    with _in_words(f"{path}: cannot be loaded as GGUF"), contextlib.redirect_stderr(io.StringIO()):
        module = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=dtype, local_files_only=True)
    # The weights are plain numbers by now; the marks of their origin would forbid saving and casting them.
    if hasattr(module.config, "quantization_config"):
        del module.config.quantization_config
    module.hf_quantizer = None
    module.is_quantized = False
    return module


def _check_fit(path: Path, module: Any, tokenizer: Any) -> None:
    rows = module.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise ModelError(
            f"{path}: its tokenizer has {len(tokenizer):,} tokens, its embedding {rows:,}; copy the tokenizer that belongs to it"
        )


@contextlib.contextmanager
def _in_words(what: str) -> Iterator[None]:
    """What transformers and its like raise over a user's files, in one line.

    They raise anything: tokenizers a bare Exception, a strict config its own kinds, arithmetic on a bad config whatever it meets.
    """
    try:
        yield
    except Exception as error:
        raise ModelError(f"{what}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    if "ignore_mismatched_sizes" in str(error):  # advice for programmers
        return "its weights have other shapes than its config.json says; copy those that belong together"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]

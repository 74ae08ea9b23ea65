"""Model folders, looked at without torch: is everything there that loading needs, and what is it (a hash of it all)."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from potstill.errors import ModelError
from potstill.store.atomic import fingerprint, hash_file

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
# Everything that an answer depends on; training leaves more in its folders (optimiser state, say), which it does not.
_IDENTITY = ("config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt")
_IDENTITY_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "chat_template*", "*.model", "*.py")
_TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja")
_LARGEST_HEADER = 100_000_000
_SHARD = re.compile(r"-\d+-of-(\d+)\.safetensors$")
# Every architecture has them as plain numbers, or not at all.
_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


def check_folder(folder: Path) -> None:
    """Raise ModelError unless `folder` holds a config, a tokenizer and whole safetensors weights."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: there is no such model folder")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: {_what_instead_of_a_model(folder)}")
    read_config(folder)
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelError(
            f"{folder}: has no tokenizer (one of {', '.join(_TOKENIZER_FILES)}); copy those of the model that it was made from"
        )
    for path in weight_files(folder):
        read_header(path)


def is_whole(folder: Path) -> bool:
    """Whether a config, a tokenizer and all files of weights are there; a download may have been cut between two of them."""
    if not (folder / "config.json").is_file() or not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        return False
    try:
        return bool(weight_files(folder))
    except ModelError:
        return any(any(folder.glob(pattern)) for pattern in _PICKLES)


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's `config.json`. Raises ModelError where it is not a JSON object, or holds a size that cannot be one."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}); copy or download it again") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path}: holds a {type(config).__name__}, not a model's configuration; copy or download it again")
    wrong = next(_wrong_values(config), None)
    if wrong is not None:
        raise ModelError(f"{path}: {wrong}; copy or download it again")
    return config


def _wrong_values(config: dict[str, Any]) -> Iterator[str]:
    kind, inner = config.get("model_type"), config.get("text_config") or config
    if not isinstance(kind, str | None):
        yield f"`model_type` is {json.dumps(kind)}, must be a name"
    if not isinstance(inner, dict):
        yield "`text_config` must be an object"
        return
    for key in _SIZES:
        size = inner.get(key, 1)
        if type(size) is not int or size < 1:
            yield f"`{key}` is {json.dumps(size)}, must be a whole number above 0"


def has_chat_template(folder: Path) -> bool:
    """Whether the folder's tokenizer brings a chat template, in a file of its own or among its settings."""
    if any(any(folder.glob(pattern)) for pattern in _TEMPLATES):
        return True
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(settings, dict) and bool(settings.get("chat_template"))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files, all that the index names. Raises ModelError where there are none, or some are missing."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            named = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            missing = [name for name in named if not (folder / name).is_file()]
        except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise ModelError(f"{index}: is not an index of weights; copy or download it again") from None
        if missing:
            raise ModelError(f"{folder}: {len(missing)} of {len(named)} weight files are missing, {missing[0]} first; copy them again")
        return [folder / name for name in named]
    found = sorted(folder.glob("*.safetensors"))
    shards = [int(number[1]) for path in found if (number := _SHARD.search(path.name))]
    if shards and len(found) < max(shards):
        raise ModelError(f"{folder}: {max(shards) - len(found)} of {max(shards)} weight files are missing; copy or download them again")
    if found:
        return found
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise ModelError(
            f"{folder}: its weights are a pickle ({pickles[0]}), which can run any code when it is opened; Potstill loads safetensors and "
            "GGUF only. Convert it on a machine that you trust: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"
        )
    raise ModelError(f"{folder}: has no weights (*.safetensors); copy or download them, or name a GGUF file")


def read_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file: dtype, shape and place of each tensor. Raises ModelError where the file is cut or damaged."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else _LARGEST_HEADER + 1
            header: dict[str, Any] | None = json.loads(file.read(length)) if length <= min(size, _LARGEST_HEADER) else None
        if header is not None:
            header.pop("__metadata__", None)
            sizes = [(math.prod(tensor["shape"]), tensor["data_offsets"][1]) for tensor in header.values()]
            needed = 8 + length + max((end for _, end in sizes), default=0)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError):
        header = None
    if header is None:
        raise ModelError(f"{path}: is not a safetensors file, or damaged; copy or download it again")
    if size < needed:
        raise ModelError(f"{path}: is cut off: {size:,} bytes of {needed:,} are there; copy or download it again")
    return header


def count_parameters(folder: Path) -> int:
    """How many weights the folder's files hold, read off their headers (a tied head counts once)."""
    return sum(math.prod(tensor["shape"]) for path in weight_files(folder) for tensor in read_header(path).values())


def identity(path: Path, **settings: str) -> str:
    """A hash of everything in a model folder or GGUF file that answers depend on, and of `settings`; copies have the same."""
    files = [path] if path.is_file() else sorted(set(_identity_files(path)))
    # A GGUF file's own name says nothing of its content.
    names = {("" if path.is_file() else file.name): hash_file(file) for file in files}
    return f"weights:{fingerprint({'files': names, 'settings': settings})[:32]}"


def _identity_files(folder: Path) -> Iterator[Path]:
    for pattern in (*_IDENTITY, *_IDENTITY_WEIGHTS):
        yield from (path for path in folder.glob(pattern) if path.is_file())


def _what_instead_of_a_model(folder: Path) -> str:
    if (folder / "adapter_config.json").is_file():
        return "is an adapter, not a whole model; merge it into its base model first (peft: merge_and_unload)"
    gguf = sorted(path.name for path in folder.glob("*.gguf"))
    if gguf:
        return f"has no config.json, but GGUF files; name one of them: {folder / gguf[0]}"
    return "has no config.json, so it is not a model folder; name the folder that save_pretrained wrote"

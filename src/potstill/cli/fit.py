"""What can be known of models without loading them: whether they are at hand, and how long the rows are in their tokens."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from potstill.errors import ModelError
from potstill.models import catalogue
from potstill.models.cache import cache_folder
from potstill.models.folder import check_folder, count_parameters, has_chat_template, read_config
from potstill.models.gguf_header import read_gguf_header
from potstill.models.locate import locate
from potstill.records import Message
from potstill.spec import WeightsSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CHARACTERS_A_TOKEN = 4.0
"""The usual rule for English text, where no tokenizer is at hand."""
TOKENS_A_MESSAGE = 5
"""What chat templates put around a message, roughly."""


@dataclass(frozen=True)
class LocalModel:
    """A local model as far as it is known: `folder` None where it is fetched only when it is first used."""

    name: str
    folder: Path | None
    parameters: float | None
    context: int | None
    layers: int | None
    tokenizer: Tokenizer | None

    def count_tokens(self, messages: Iterable[Message]) -> int:
        """Tokens of a chat: exactly the text's where the tokenizer is at hand, else a quarter of its characters."""
        return count_tokens(self.tokenizer, messages)


def count_tokens(tokenizer: Tokenizer | None, messages: Iterable[Message]) -> int:
    """Tokens of a chat, with a few a message for the template; a quarter of the characters where there is no tokenizer."""
    texts = [message.content for message in messages]
    if tokenizer is None:
        inside = sum(len(text) for text in texts) / CHARACTERS_A_TOKEN
    else:
        inside = sum(len(found.ids) for found in tokenizer.encode_batch(texts, add_special_tokens=False))
    return round(inside) + TOKENS_A_MESSAGE * len(texts)


def look_up(weights: WeightsSpec) -> LocalModel:
    """What is known of a local model; nothing is fetched and no torch imported. Raises ModelError where it cannot be loaded."""
    assert weights.model is not None
    if importlib.util.find_spec("torch") is None:
        raise ModelError(f"{weights.model}: local models need torch: pip install 'potstill[train]'")
    entry = catalogue.find(weights.model)
    folder = _at_hand(weights)
    parameters, context, layers = (entry.parameters, entry.context, None) if entry else (None, None, None)
    if folder is None:
        return LocalModel(weights.model, None, parameters, context, layers, None)
    if folder.is_file():
        header = read_gguf_header(folder)
        return LocalModel(weights.model, folder, float(header.parameters), header.context or context, header.layers, None)
    check_folder(folder)
    if weights.chat_template is None and not has_chat_template(folder):
        raise ModelError(
            f"{folder}: its tokenizer brings no chat template; name a Jinja file in `chat_template:` beside `model:`, "
            "or choose the model's instruct version"
        )
    config = read_config(folder)
    inner = config.get("text_config") or config
    return LocalModel(
        name=weights.model,
        folder=folder,
        parameters=float(count_parameters(folder)),
        context=inner.get("max_position_embeddings", context),
        layers=inner.get("num_hidden_layers"),
        tokenizer=read_tokenizer(folder),
    )


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a folder, where it brings a `tokenizer.json` and the package is installed."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError:
        return None
    try:
        text = path.read_text(encoding="utf-8")
        json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}); copy or download it again") from None
    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # noqa: BLE001 (the package raises no other kind)
        raise ModelError(f"{folder}: its tokenizer cannot be loaded: {error}; copy or download it again") from None


def same_tokens(left: LocalModel, right: LocalModel) -> bool | None:
    """Whether two models have one vocabulary; None where that is not known yet."""
    if left.tokenizer is None or right.tokenizer is None:
        return None
    found: bool = left.tokenizer.get_vocab() == right.tokenizer.get_vocab()
    return found


def _at_hand(weights: WeightsSpec) -> Path | None:
    """Where the weights are on this machine; None where they would be fetched. Raises ModelError where the name means nothing."""
    name = str(weights.model)
    entry = catalogue.find(name)
    if entry is not None and entry.embedded and weights.revision is None:
        from potstill.models.embedded import SMOLLM2

        folder = cache_folder() / "models" / f"{Path(SMOLLM2.member).stem}-{SMOLLM2.sha256[:8]}"
        return folder if folder.is_dir() else None
    hub_id = entry.hub_id if entry is not None and entry.path is None else None
    if (
        entry is None
        and "/" in name
        and name.count("/") == 1
        and not Path(name).expanduser().exists()
        and not name.startswith((".", "/", "~"))
    ):
        hub_id = name
    return locate(weights) if hub_id is None else _in_hub_cache(hub_id, weights.revision)


def _in_hub_cache(hub_id: str, revision: str | None) -> Path | None:
    try:
        from huggingface_hub import constants, errors, snapshot_download
    except ModuleNotFoundError:
        raise ModelError(f"{hub_id}: hub models need an extra: pip install 'potstill[train]'") from None
    try:
        return Path(snapshot_download(hub_id, revision=revision, local_files_only=True))
    except errors.HFValidationError as error:
        raise ModelError(f"{hub_id}: is not a hub id: {error}") from None
    except errors.LocalEntryNotFoundError:
        if constants.HF_HUB_OFFLINE:
            raise ModelError(
                f"{hub_id}: is not on this machine, and HF_HUB_OFFLINE forbids to fetch it: `potstill models pull` without it"
            ) from None
        return None

"""What can be known of a local model without loading it: from its config, its tokenizer, and the heads of its weights. No torch here."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.errors import ModelError
from potstill.models import catalogue
from potstill.models.chat import NO_TEMPLATE
from potstill.models.folder import check_folder, count_parameters, has_chat_template, read_config
from potstill.models.gguf_header import read_gguf_header
from potstill.models.locate import locate, locate_here
from potstill.models.reading import check_architecture, find_device
from potstill.models.tokens import map_tokens
from potstill.models.weights import read_template
from potstill.spec.sections import WeightsSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# The names that configs give to one thing.
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_CONTEXT = ("max_position_embeddings", "n_positions")
_ALWAYS_THERE = ("auto", "cpu")


@dataclass(frozen=True)
class LocalModel:
    """A local model as far as it is known; None and empty mean unknown.

    `place` is a folder or GGUF file, None where the model is fetched only when it is first used. `problems` stop it from being loaded or
    asked, `notes` do not.
    """

    name: str
    place: Path | None = None
    parameters: float | None = None
    context: int | None = None
    layers: int | None = None
    has_template: bool | None = None
    tokenizer: Tokenizer | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def look_up(weights: WeightsSpec, *, fetch: bool = False) -> LocalModel:
    """What is known of a local model, and all that speaks against loading and asking it; with `fetch` it is brought here first."""
    assert weights.model is not None, "the caller knows what is looked up"
    try:
        place = locate(weights) if fetch else locate_here(weights)
        found = _not_here(weights.model) if place is None else _here(weights, place)
    except ModelError as error:
        found = LocalModel(weights.model, problems=(str(error),))
    missing = missing_packages()
    notes = found.notes if missing is None else (*found.notes, missing)
    return replace(found, problems=(*found.problems, *_misfits(weights, found)), notes=notes)


def missing_packages() -> str | None:
    """What to install before local models can be loaded; None where all is there."""
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    return f"local models need {' and '.join(missing)}, which this Python does not have: pip install 'potstill[train]'"


def device_problem(name: str) -> str | None:
    """Why a spec's `device` is not to be had here; None where it is, or where torch is not there to tell."""
    if name in _ALWAYS_THERE or missing_packages():
        return None
    try:
        find_device(name)
    except ModelError as error:
        return str(error)
    return None


def same_tokens(student: LocalModel, teacher: LocalModel) -> bool | None:
    """Whether two models have the same tokens, under whatever ids; None where that is not known yet."""
    if student.tokenizer is None or teacher.tokenizer is None:
        return None
    return map_tokens(student.tokenizer, teacher.tokenizer) is not None


def _misfits(weights: WeightsSpec, found: LocalModel) -> Iterator[str]:
    """What the spec says of loading that cannot be."""
    no_device = device_problem(weights.device)
    if no_device is not None:
        yield no_device
    if weights.chat_template is None:
        if found.has_template is False:
            yield f"{found.name}: {NO_TEMPLATE}"
        return
    try:
        read_template(weights.chat_template)
    except ModelError as error:
        yield str(error)


def _not_here(name: str) -> LocalModel:
    entry = catalogue.find(name)
    note = "is not on this machine: layers, tokenizer and chat template are not known before it is fetched (`potstill models pull`)"
    if entry is None:
        return LocalModel(name, notes=(f"{name} {note}",))
    return LocalModel(name, None, entry.parameters, entry.context, notes=() if entry.embedded else (f"{name} {note}",))


def _here(weights: WeightsSpec, place: Path) -> LocalModel:
    return _from_gguf(str(weights.model), place) if place.is_file() else _from_folder(weights, place)


def _from_folder(weights: WeightsSpec, folder: Path) -> LocalModel:
    check_folder(folder)
    check_architecture(folder, weights.trust_remote_code)
    config = read_config(folder)
    inner = config.get("text_config") or config
    return LocalModel(
        name=str(weights.model),
        place=folder,
        parameters=float(count_parameters(folder)),
        context=_first(inner, _CONTEXT),
        layers=_first(inner, _LAYERS),
        has_template=has_chat_template(folder),
        tokenizer=read_fast_tokenizer(folder),
    )


def _from_gguf(name: str, path: Path) -> LocalModel:
    if missing_packages() is not None:
        return LocalModel(name, path)
    header = read_gguf_header(path)
    return LocalModel(name, path, float(header.parameters), header.context, header.layers, header.has_template)


def read_fast_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer of a folder where it brings a `tokenizer.json`, and the package is installed. Raises ModelError where it is none."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError:
        return None
    try:
        return Tokenizer.from_buffer(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error}); copy or download it again") from None
    except Exception as error:  # noqa: BLE001 (the package raises no other kind)
        reason = str(error).splitlines()[0].removeprefix("Cannot instantiate Tokenizer from buffer: ")
        raise ModelError(f"{folder}: its tokenizer cannot be loaded: {reason}; copy or download it again") from None


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((value for name in names if isinstance(value := config.get(name), int)), None)

"""The student before it is trained: a model as it comes, or one carved out of a larger one, as a folder that transformers loads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from potstill.errors import ModelError
from potstill.models.folder import identity
from potstill.models.weights import Weights, quiet_transformers
from potstill.spec.sections import CarveSpec
from potstill.store.atomic import read_json, write_atomic, write_json
from potstill.training.adapters import plain_state
from potstill.training.carve import carve, evenly_spaced, special_ids
from potstill.training.folders import replace_folder
from potstill.training.vocabulary import TrimmedVocabulary, save_tokenizer, trim_vocabulary

if TYPE_CHECKING:
    import torch

_STUDENT, _VOCABULARY = "student.json", "vocabulary.npy"

TokenUse = Callable[[Any], Iterable[Sequence[int]]]
"""All the data, as token ids of the tokenizer that is given."""


@dataclass(frozen=True)
class Student:
    """An untrained student: its folder, the layers it kept (None: all), and the origin's id of each of its tokens (None: the same).

    `vocabulary` is how many rows its embedding has; `parameters` and `origin_parameters` count the weights of both, tied ones once.
    """

    folder: Path
    vocabulary: int
    parameters: int
    origin_parameters: int
    layers: tuple[int, ...] | None = None
    kept_ids: NDArray[np.int64] | None = None


def build_student(origin: Weights, carving: CarveSpec | None, token_use: TokenUse, folder: Path) -> Student:
    """Write the untrained student to `folder`, whole or not at all: `origin` as it is, or carved as `carving` says.

    `token_use` is asked only where the vocabulary is trimmed to the data. Raises SpecError or ModelError where `origin` cannot
    be carved so.
    """
    module, layers, trimmed = origin.module, None, None
    if carving is not None:
        layers = evenly_spaced(module.config.get_text_config().num_hidden_layers, carving.layers)
        if carving.vocabulary == "data":
            trimmed = _trim(origin, token_use)
        module = carve(origin.module, layers, trimmed.kept_ids if trimmed else None)
    with replace_folder(folder) as part, quiet_transformers():
        module.save_pretrained(part)
        if trimmed is None:
            origin.tokenizer.save_pretrained(part)
        else:
            save_tokenizer(trimmed.tokenizer, part)
            _prove(origin.tokenizer, part, trimmed, token_use)
        _forget_foreign_code(part, origin)
    counts = module.get_input_embeddings().weight.shape[0], count_parameters(module), count_parameters(origin.module)
    return Student(folder, *counts, layers, trimmed.kept_ids if trimmed else None)


def write_student(student: Student, folder: Path) -> None:
    """Write down, beside the student's own folder, what its weights do not say: `student.json`, and `vocabulary.npy` where trimmed."""
    if student.kept_ids is not None:
        with write_atomic(folder / _VOCABULARY, "wb") as file:
            np.save(file, student.kept_ids)
    # Written last: where it stands, all else does.
    described = {
        "folder": student.folder.name,
        "vocabulary": student.vocabulary,
        "parameters": student.parameters,
        "origin_parameters": student.origin_parameters,
        "layers": student.layers,
        "trimmed": student.kept_ids is not None,
        "weights": identity(student.folder),
    }
    write_json(folder / _STUDENT, described)


def read_student(folder: Path) -> Student | None:
    """What `write_student` wrote; None where nothing is written, or where the student's folder was changed or removed since."""
    if not (folder / _STUDENT).exists():
        return None
    found = read_json(folder / _STUDENT)
    if found.get("weights") != identity(folder / found["folder"]):
        return None
    kept_ids = np.load(folder / _VOCABULARY, allow_pickle=False) if found["trimmed"] else None
    layers = tuple(found["layers"]) if found["layers"] is not None else None
    counts = found["vocabulary"], found["parameters"], found["origin_parameters"]
    return Student(folder / found["folder"], *counts, layers, kept_ids)


def save_weights(module: Any, dtypes: dict[str, torch.dtype], folder: Path) -> None:
    """Save a model as a folder that transformers loads, each tensor in the number format that `dtypes` gives by its name.

    Adapters are merged into it.
    """
    cast: dict[object, torch.Tensor] = {}
    state = {}
    for name, tensor in plain_state(module).items():
        # Tied tensors stay one, so that they are saved once.
        state[name] = cast.setdefault((tensor.data_ptr(), tensor.shape), tensor.to(dtypes[name]))
    module.save_pretrained(folder, state_dict=state)
    whole = next(dtype for dtype in dtypes.values() if dtype.is_floating_point)
    config = folder / "config.json"
    write_json(config, read_json(config) | {"dtype": str(whole).removeprefix("torch.")})


def count_parameters(module: Any) -> int:
    """Weights of a model, tied ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def _trim(origin: Weights, token_use: TokenUse) -> TrimmedVocabulary:
    known = len(origin.tokenizer)
    named = special_ids(origin.module.config) | special_ids(origin.module.generation_config)
    used = set(chain.from_iterable(token_use(origin.tokenizer))) | {token for token in named if 0 <= token < known}
    return trim_vocabulary(origin.tokenizer, used)


def _forget_foreign_code(folder: Path, origin: Weights) -> None:
    """Take out the names of Python files that stand in the origin's folder alone, where transformers' own classes were loaded.

    Phi's folders bring such code, for versions of transformers that knew no Phi.
    """
    for name, loaded in (("config.json", origin.module), ("tokenizer_config.json", origin.tokenizer)):
        path = folder / name
        if type(loaded).__module__.startswith("transformers.") and path.exists():
            settings = read_json(path)
            if settings.pop("auto_map", None) is not None:
                write_json(path, settings)


def _prove(full: Any, folder: Path, trimmed: TrimmedVocabulary, token_use: TokenUse) -> None:
    """Read the saved tokenizer as everybody will, and hold it against the full one on all the data."""
    from transformers import AutoTokenizer

    saved = AutoTokenizer.from_pretrained(folder)
    if saved.get_vocab() != trimmed.tokenizer.get_vocab():
        raise ModelError(f"{type(saved).__name__} does not read back the trimmed tokenizer; set `student.carve.vocabulary: full`")
    for expected, found in zip(token_use(full), token_use(saved), strict=True):
        if trimmed.kept_ids[np.asarray(found, dtype=np.int64)].tolist() != list(expected):
            raise ModelError(
                f"{type(full).__name__}: the trimmed tokenizer reads the data in other tokens than the full one; "
                "set `student.carve.vocabulary: full`"
            )

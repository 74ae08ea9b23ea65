"""From what a spec names to where the weights are: catalogue, folder, GGUF file or hub. No torch here."""

from __future__ import annotations

import os
import re
from pathlib import Path

from potstill.errors import ModelError
from potstill.models import catalogue
from potstill.models.catalogue import Entry
from potstill.models.embedded import embedded_folder, fetch_embedded
from potstill.models.hub import fetch_from_hub, in_hub_cache
from potstill.spec.sections import TeacherSpec, WeightsSpec
from potstill.store.atomic import hash_file

ECHO = "echo"
_HUB_ID = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_local(spec: TeacherSpec) -> bool:
    """Whether this teacher's weights are loaded here (not an endpoint, not a recording, not the echo)."""
    if spec.base_url is not None or spec.replay is not None or spec.model == ECHO:
        return False
    entry = catalogue.find(spec.model)
    return entry is None or entry.base_url is None


def locate(spec: WeightsSpec) -> Path:
    """The model folder or GGUF file of `spec.model`; hub models and the embedded one are fetched where they are not cached.

    Raises ModelError where the name means nothing, or the hub does not give the model.
    """
    origin = _origin(spec)
    if isinstance(origin, Path):
        return origin
    return fetch_embedded() if origin is None else fetch_from_hub(origin, spec.revision, code=spec.trust_remote_code)


def locate_here(spec: WeightsSpec) -> Path | None:
    """Where `locate` would find the model on this machine; None where it would fetch it. Nothing is fetched.

    Raises ModelError where the name means nothing, or the model would have to be fetched although that is forbidden.
    """
    origin = _origin(spec)
    if isinstance(origin, Path):
        return origin
    return embedded_folder() if origin is None else in_hub_cache(origin, spec.revision)


def _origin(spec: WeightsSpec) -> Path | str | None:
    """A place on this machine, a hub id, or None for the embedded model."""
    assert spec.model is not None, "the caller knows what is loaded"
    name = spec.model
    entry = catalogue.find(name)
    if entry is not None:
        return _origin_of_entry(name, entry, spec.revision)
    path = Path(os.path.expanduser(name))
    # os.path answers no where a name is too long for the system, where Path raises.
    if os.path.exists(path) or name.endswith(".gguf"):
        return _checked_path(path)
    if _HUB_ID.fullmatch(name):
        return name
    raise ModelError(_unknown(name))


def _origin_of_entry(name: str, entry: Entry, revision: str | None) -> Path | str | None:
    if entry.path is not None:
        return _checked_path(entry.path)
    if entry.embedded and revision is None:
        return None
    if entry.hub_id is not None:
        return entry.hub_id
    raise ModelError(f"{name}: is an endpoint ({entry.base_url}) without public weights: it can teach, but not be trained or loaded here")


def _checked_path(path: Path) -> Path:
    if not path.exists():
        raise ModelError(f"{path}: there is no such {'file' if path.suffix == '.gguf' else 'folder'}")
    if path.is_file() and path.suffix != ".gguf":
        raise ModelError(f"{path}: is a file; name the model's folder, or a GGUF file")
    return path.absolute()


def weights_stamp(model: str | None) -> object:
    """Names, sizes and times of a local model's files: weights that were trained anew in the same place are other weights.

    None where the model is not named by its place on this machine.
    """
    path = Path(model or "")
    if not path.is_absolute() or not os.path.exists(path):
        return None
    files = sorted(path.glob("*")) if path.is_dir() else [path]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]


def teacher_stamp(spec: TeacherSpec) -> object:
    """What a teacher answers from on this machine: the hash of its recorded answers, else its weights' stamp; None for an endpoint."""
    if spec.replay is not None:
        return hash_file(spec.replay) if spec.replay.is_file() else None
    return weights_stamp(spec.model)


def template_stamp(spec: WeightsSpec) -> str | None:
    """The hash of the chat template's file: one that was edited in its place writes other prompts.

    None where none is named, or none is there, which whoever needs it will say.
    """
    template = spec.chat_template
    return hash_file(template) if template is not None and template.is_file() else None


def _unknown(name: str) -> str:
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    if looks_like_path:
        return f"{name}: there is no such folder or file"
    near = catalogue.near_names(name)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return (
        f'model "{name}" is not known; {hint}Allowed: a name of the catalogue (`potstill models`), a hub id like org/name, '
        "a model folder, a .gguf file, or any name together with a `base_url`"
    )

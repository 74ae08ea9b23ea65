"""From what a spec names to where the weights are: catalogue, folder, GGUF file or hub. No torch here."""

from __future__ import annotations

import re
from pathlib import Path

from potstill.errors import ModelError
from potstill.models import catalogue
from potstill.models.catalogue import Entry
from potstill.models.embedded import fetch_embedded
from potstill.models.hub import fetch_from_hub
from potstill.spec.sections import TeacherSpec, WeightsSpec

ECHO = "echo"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


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
    assert spec.model is not None, "the caller knows what is loaded"
    name = spec.model
    entry = catalogue.find(name)
    if entry is not None:
        return _locate_entry(name, entry, spec)
    path = Path(name).expanduser()
    if path.exists() or name.endswith(".gguf"):
        return _checked_path(path)
    if _HUB_ID.fullmatch(name) and not name.startswith("."):
        return fetch_from_hub(name, spec.revision, code=spec.trust_remote_code)
    raise ModelError(_unknown(name))


def _locate_entry(name: str, entry: Entry, spec: WeightsSpec) -> Path:
    if entry.path is not None:
        return _checked_path(entry.path)
    if entry.embedded and spec.revision is None:
        return fetch_embedded()
    if entry.hub_id is not None:
        return fetch_from_hub(entry.hub_id, spec.revision, code=spec.trust_remote_code)
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
    if not path.is_absolute() or not path.exists():
        return None
    files = sorted(path.glob("*")) if path.is_dir() else [path]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]


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

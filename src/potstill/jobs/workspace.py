"""A workspace: a folder with jobs and models, and the config file that says where it is and what its model names mean."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from potstill.errors import SpecError
from potstill.models.catalogue import entries
from potstill.store.atomic import read_json, store_error, write_json

CONFIG_NAMES = ("potstill.json", "config.json")
DEFAULT_FOLDER = "potstill-workspace"
# Many programs have a `config.json`, and many of those a key such as `settings`.
_TELLING_KEYS = ({"workspace_folder"}, {"catalogue"}, {"subscription_id", "resource_group", "workspace_name"})


class WorkspaceConfig(BaseModel):
    """What a config file may say. The keys of Azure Machine Learning's own `config.json` are read and not used."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    workspace_folder: Path = Path(DEFAULT_FOLDER)
    """Where jobs and models are kept; relative to the config file's folder."""
    catalogue: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """What model names mean here, in the shape of `potstill.models.catalogue.Entry`: `{"phi-4-mini": {"path": "models/phi"}}`."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Spec settings that every job starts from, dotted: `{"evaluation.latency_rows": 4}`."""
    subscription_id: str | None = None
    resource_group: str | None = None
    workspace_name: str | None = None


@dataclass(frozen=True)
class Workspace:
    """An open workspace; `catalogue` is the file that its model names are in, where it has any of its own."""

    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    catalogue: Path | None = None

    @property
    def jobs(self) -> Path:
        """The folder of the jobs' run folders."""
        return self.folder / "jobs"

    def environment(self) -> dict[str, str]:
        """The environment of a process in which the workspace's model names hold, before those of the user's own catalogue."""
        if self.catalogue is None:
            return dict(os.environ)
        files = [str(self.catalogue), os.environ.get("POTSTILL_CATALOGUE", "")]
        return {**os.environ, "POTSTILL_CATALOGUE": os.pathsep.join(filter(None, files))}

    @contextlib.contextmanager
    def names(self) -> Iterator[None]:
        """The workspace's model names hold in this process too, for the length of the block."""
        before = os.environ.get("POTSTILL_CATALOGUE")
        os.environ.update(self.environment())
        try:
            yield
        finally:
            os.environ.pop("POTSTILL_CATALOGUE", None)
            if before is not None:
                os.environ["POTSTILL_CATALOGUE"] = before


def open_workspace(start: Path | None = None) -> Workspace:
    """The workspace of the config file `start`, or of the first one in that folder (None: the working folder) and those above it.

    Without any, the folder `potstill-workspace` there. Raises SpecError for a config that is not acceptable.
    """
    start = (start or Path.cwd()).absolute()
    if not start.exists():
        raise SpecError(f"{start}: there is no such config file or folder")
    path = start if start.is_file() else find_config(start)
    config = WorkspaceConfig() if path is None else read_config(path)
    base = start if path is None else path.parent
    folder = base / config.workspace_folder.expanduser()
    try:
        (folder / "jobs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise store_error(folder, error) from None
    catalogue = _write_catalogue(folder, base, config.catalogue) if config.catalogue else None
    workspace = Workspace(folder, config.settings, catalogue)
    with workspace.names():
        entries()  # read now, so that a bad entry is told before a job is made of it
    return workspace


def find_config(folder: Path) -> Path | None:
    """The nearest config file in `folder` or above it; a `config.json` of some other program is passed over."""
    for place in (folder, *folder.parents):
        for name in CONFIG_NAMES:
            path = place / name
            if path.is_file() and (name != "config.json" or _is_ours(path)):
                return path
    return None


def read_config(path: Path) -> WorkspaceConfig:
    """The config in a file. Raises SpecError where it is not acceptable."""
    try:
        return WorkspaceConfig.model_validate(json.loads(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise store_error(path, error) from None
    except ValidationError as error:
        problems = [f"{path}: `{'.'.join(map(str, each['loc']))}`: {each['msg'].lower()}" for each in error.errors()]
        raise SpecError("\n".join([*problems, f"allowed keys: {', '.join(WorkspaceConfig.model_fields)}"])) from None
    except ValueError as error:
        raise SpecError(f"{path}: is not JSON: {error}") from None


def _is_ours(path: Path) -> bool:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and any(found.keys() >= keys for keys in _TELLING_KEYS)


def _write_catalogue(folder: Path, base: Path, own: Mapping[str, Mapping[str, Any]]) -> Path:
    """The workspace's own names as a catalogue file; paths in it are made absolute, from the config's folder."""
    placed = {name: dict(entry) for name, entry in own.items()}
    for entry in placed.values():
        if isinstance(entry.get("path"), str):
            entry["path"] = str(base / Path(entry["path"]).expanduser())
    path = folder / "catalogue.json"
    if not path.exists() or read_json(path) != placed:
        write_json(path, placed)
    return path

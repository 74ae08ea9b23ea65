"""YAML to `RunSpec`, with errors that name file, line, key, what was found and what is allowed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from potstill.errors import SpecError, UsageError
from potstill.spec.explain import Places, explain
from potstill.spec.sections import RunSpec
from potstill.spec.yaml_text import key_lines, read_yaml

_DATA_SECTIONS = ("task", "data", "seed")
_STAND_INS: dict[str, Any] = {"name": "data", "teacher": {"model": "echo"}, "student": {"model": "none"}}


def load_spec(path: Path, overrides: Sequence[str] = ()) -> RunSpec:
    """Read, override (`training.epochs=5`) and validate the spec at `path`.

    Relative paths become absolute, from the spec's folder. Raises SpecError with all problems at once, UsageError for an
    override that is not `key=value`.
    """
    raw, places = _read_sections(path, overrides)
    return _validate(raw, path.parent, places)


def load_data_sections(path: Path, overrides: Sequence[str] = ()) -> RunSpec | None:
    """The spec at `path` with stand-ins for all but what its data depends on; None where that part has faults of its own."""
    try:
        raw, places = _read_sections(path, overrides)
        return _validate({key: raw[key] for key in _DATA_SECTIONS if key in raw} | _STAND_INS, path.parent, places)
    except SpecError:
        return None


def spec_from_dict(raw: dict[str, Any], folder: Path) -> RunSpec:
    """Validate a spec that was built in Python; relative paths start at `folder`."""
    return _validate(raw, folder, Places(str(folder / "spec")))


def dump_spec(spec: RunSpec) -> str:
    """The spec as YAML, every default written out."""
    return yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def spec_schema() -> str:
    """JSON Schema of the spec, for editors."""
    schema = RunSpec.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        for field in section["properties"].values():
            if "$ref" in field and "default" in field:
                # A header over nothing is null, and means the defaults.
                field["anyOf"] = [{"$ref": field.pop("$ref")}, {"type": "null"}]
    return json.dumps(schema, indent=2)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SpecError(f"{path}: there is no such file; `potstill init` writes a spec") from None
    except IsADirectoryError:
        raise SpecError(f"{path}: is a folder; name the YAML file in it") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None


def _read_sections(path: Path, overrides: Sequence[str]) -> tuple[dict[str, Any], Places]:
    text = _read(path)
    raw = read_yaml(text, path)
    if raw is None:
        raise SpecError(f"{path}: is empty; `potstill init` writes a spec to start from")
    if not isinstance(raw, dict):
        raise SpecError(f"{path}:1: found {type(raw).__name__}, a spec is a mapping of sections (name, task, data, teacher, student)")
    places = Places(str(path))
    for key, line in key_lines(text):
        here = f"{path}:{line}"
        first = places.note(key, here)
        if first is not here:
            raise SpecError(f"{path}:{line}: `{key}` stands twice (first on line {first.rpartition(':')[2]}); remove one")
    for override in overrides:
        key = _apply(raw, override)
        # The value is left out: it may be a key in a place where none belongs.
        places.replace(key, f"--set {key}")
    return raw, places


def _apply(raw: dict[str, Any], override: str) -> str:
    """Write one override into `raw`; returns its key."""
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UsageError(f"--set {override!r}: expected key=value, as in --set training.epochs=5")
    try:
        value = read_yaml(text, "")
    except SpecError:
        raise UsageError(f"--set {override!r}: the value is not YAML; quote it") from None
    *parents, last = key.split(".")
    section = raw
    for parent in parents:
        child = section.get(parent)
        if child is None:
            child = section[parent] = {}
        if not isinstance(child, dict):
            raise UsageError(f"--set {override!r}: `{parent}` is a value, not a section")
        section = child
    section[last] = value
    return key


def _validate(raw: dict[str, Any], folder: Path, places: Places) -> RunSpec:
    try:
        spec = RunSpec.model_validate(raw)
    except ValidationError as error:
        raise SpecError("\n".join(explain(error, places))) from None
    return RunSpec.model_validate(_with_absolute_paths(spec, folder.absolute()))


def _with_absolute_paths(section: BaseModel, folder: Path) -> dict[str, Any]:
    """A section as plain data, its files and folders absolute."""
    found: dict[str, Any] = {}
    remote = getattr(section, "base_url", None) is not None
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Path):
            value = _placed(folder, value)
        elif isinstance(value, BaseModel):
            value = _with_absolute_paths(value, folder)
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            value = [_with_absolute_paths(item, folder) for item in value]
        elif name == "model" and isinstance(value, str) and not remote and _is_path(value, folder):
            value = str(_placed(folder, value))
        found[name] = value
    return found


def _placed(folder: Path, path: Path | str) -> Path:
    # os.path leaves the home of an unknown user as it is written, where Path raises.
    return folder / os.path.expanduser(path)


def _is_path(model: str, folder: Path) -> bool:
    """Whether `model` means a place on this machine: it looks like one, or a model lies there beside the spec."""
    if model.startswith(("./", "../", "~", "/")) or model.endswith(".gguf"):
        return True
    # A bare name may be the catalogue's, and a folder of that name anything.
    beside = folder / model if "/" in model else folder / model / "config.json"
    # os.path answers no where a name is too long for the system, where Path raises.
    return os.path.exists(beside)

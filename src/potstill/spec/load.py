"""YAML to `RunSpec`, with errors that name file, line, key, what was found and what is allowed."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from potstill.errors import SpecError, UsageError
from potstill.spec.sections import RunSpec


def load_spec(path: Path, overrides: Sequence[str] = ()) -> RunSpec:
    """Read, override (`training.epochs=5`) and validate the spec at `path`.

    Relative paths become absolute, from the spec's folder. Raises SpecError with all problems at once, UsageError for an
    override that is not `key=value`.
    """
    text = _read(path)
    raw, lines = _parse(path, text)
    for override in overrides:
        _apply(raw, override)
    return _validate(raw, path, lines)


def spec_from_dict(raw: dict[str, Any], folder: Path) -> RunSpec:
    """Validate a spec that was built in Python; relative paths start at `folder`."""
    return _validate(raw, folder / "spec", {})


def dump_spec(spec: RunSpec) -> str:
    """The spec as YAML, every default written out."""
    return yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def spec_schema() -> str:
    """JSON Schema of the spec, for editors."""
    return json.dumps(RunSpec.model_json_schema(), indent=2)


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


def _parse(path: Path, text: str) -> tuple[dict[str, Any], dict[str, int]]:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SpecError(f"{path}:{line}: not YAML: {error.problem}; check indentation and quotes there") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: not YAML: {error}") from None
    if raw is None:
        raise SpecError(f"{path}: is empty; `potstill init` writes a spec to start from")
    if not isinstance(raw, dict):
        raise SpecError(f"{path}:1: found {type(raw).__name__}, a spec is a mapping of sections (name, task, data, teacher, student)")
    lines: dict[str, int] = {}
    _note_lines(path, node, "", lines)
    return raw, lines


def _note_lines(path: Path, node: yaml.Node | None, prefix: str, lines: dict[str, int]) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        if name in lines:
            raise SpecError(f"{path}:{key.start_mark.line + 1}: `{name}` stands twice (first on line {lines[name]}); remove one")
        lines[name] = key.start_mark.line + 1
        _note_lines(path, value, f"{name}.", lines)


def _apply(raw: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {override!r}: expected key=value, as in --set training.epochs=5")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(f"--set {override!r}: the value is not YAML; quote it") from None
    *parents, last = key.strip().split(".")
    section = raw
    for parent in parents:
        child = section.get(parent)
        if child is None:
            child = section[parent] = {}
        if not isinstance(child, dict):
            raise UsageError(f"--set {override!r}: `{parent}` is a value, not a section")
        section = child
    section[last] = value


def _validate(raw: dict[str, Any], path: Path, lines: dict[str, int]) -> RunSpec:
    try:
        spec = RunSpec.model_validate(raw)
    except ValidationError as error:
        problems = [_explain(problem, path, lines) for problem in error.errors()]
        raise SpecError("\n".join(dict.fromkeys(problems))) from None
    return RunSpec.model_validate(_with_absolute_paths(spec, path.parent.absolute()))


def _with_absolute_paths(section: BaseModel, folder: Path) -> dict[str, Any]:
    """A section as plain data, its files and folders absolute."""
    found: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Path):
            value = folder / value.expanduser()
        elif isinstance(value, BaseModel):
            value = _with_absolute_paths(value, folder)
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            value = [_with_absolute_paths(item, folder) for item in value]
        elif name == "model" and isinstance(value, str) and _looks_like_a_path(value):
            value = str((folder / Path(value).expanduser()).absolute())
        found[name] = value
    return found


def _looks_like_a_path(model: str) -> bool:
    return model.startswith(("./", "../", "~", "/")) or model.endswith(".gguf")


def _explain(problem: ErrorDetails, path: Path, lines: dict[str, int]) -> str:
    where = [str(part) for part in problem["loc"] if not (isinstance(part, str) and ("[" in part or "(" in part))]
    names = [part for part in where if not part.isdigit()]
    key = ".".join(names)
    while key and key not in lines and "." in key:
        key = key.rpartition(".")[0]
    place = f"{path}:{lines[key]}" if key in lines else str(path)
    name = ".".join(where)
    if problem["type"] == "extra_forbidden":
        allowed = _allowed_keys(names[:-1])
        close = difflib.get_close_matches(names[-1], allowed, n=1)
        hint = f"did you mean `{close[0]}`?" if close else f"allowed: {', '.join(allowed)}"
        return f"{place}: `{name}` is not a key; {hint}"
    if problem["type"] == "missing":
        return f"{place}: `{name}` is missing; {_purpose(names) or 'add it'}"
    message = problem["msg"].removeprefix("Value error, ")
    found = "" if problem["type"] == "value_error" else f" (found {_shorten(problem['input'])})"
    return f"{place}: {f'`{name}`: ' if name else ''}{message[:1].lower()}{message[1:]}{found}"


def _section_of(names: Sequence[str]) -> type[BaseModel] | None:
    model: type[BaseModel] = RunSpec
    for name in names:
        field = model.model_fields.get(name)
        if field is None:
            return None
        choices = [field.annotation, *get_args(field.annotation)]
        inner = [c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)]
        if not inner:
            return None
        model = inner[0]
    return model


def _allowed_keys(names: Sequence[str]) -> list[str]:
    section = _section_of(names)
    return sorted(section.model_fields) if section else []


def _purpose(names: Sequence[str]) -> str:
    section = _section_of(names[:-1])
    field = section.model_fields.get(names[-1]) if section and names else None
    return (field.description or "").strip() if field else ""


def _shorten(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."

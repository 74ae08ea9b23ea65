"""What pydantic finds wrong with a spec, in our words: one line a mistake, with its place, what was found and what is allowed."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from potstill.spec.sections import RunSpec

_MUST = {
    "model_type": "must be a section of keys",
    "dict_type": "must be a mapping, as {key: value}",
    "tuple_type": "must be a list, as [one, two]",
    "path_type": "must be a path",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}

# What is refused there may be a key in the wrong place, and is not repeated.
_SECRETS = {"api_key_env", "api_key_file", "base_url", "headers"}

Names = tuple[str, ...]


class Places:
    """Where each key of a spec was written: `potstill.yaml:3`, or the `--set` that wrote it."""

    def __init__(self, whole: str) -> None:
        self._whole = whole
        self._places: dict[str, str] = {}

    def note(self, key: str, place: str) -> str:
        """Note where the dotted `key` stands; returns where it stood first."""
        return self._places.setdefault(key, place)

    def replace(self, key: str, place: str) -> None:
        """`key` and everything below it is written anew at `place`."""
        self._places = {name: found for name, found in self._places.items() if name != key and not name.startswith(f"{key}.")}
        self._places[key] = place

    def of(self, names: Sequence[str]) -> str:
        """The place of a key, or of the nearest section around it."""
        for end in range(len(names), 0, -1):
            found = self._places.get(".".join(names[:end]))
            if found is not None:
                return found
        return self._whole

    def around(self, names: Sequence[str]) -> str:
        """The place of a section as a whole: every `--set` that wrote into it is named, for any may be to blame."""
        inside = {place: None for key, place in self._places.items() if self._is_below(key, names) and place.startswith("--set")}
        return " with ".join(dict.fromkeys([self.of(names), *inside]))

    @staticmethod
    def _is_below(key: str, names: Sequence[str]) -> bool:
        return not names or key.startswith(f"{'.'.join(names)}.")


def explain(error: ValidationError, places: Places) -> list[str]:
    """One line a mistake. A key that may be of several types is one mistake, and so is a list whose items are."""
    by_key: dict[Names, list[ErrorDetails]] = {}
    for problem in error.errors():
        by_key.setdefault(_key(problem["loc"]), []).append(problem)
    sections_of = {names[:end] for names in by_key for end in range(len(names))}
    lines = []
    for names, problems in by_key.items():
        if names in sections_of and problems[0]["type"] == "too_short":
            continue
        place = places.around(names) if problems[0]["type"] == "value_error" else places.of(names)
        lines += [f"{place}: {text}" for text in _describe(names, problems)]
    return lines


def _key(location: tuple[int | str, ...]) -> Names:
    """The location as a user wrote it: pydantic puts the types that it tried among the keys."""
    names: list[str] = []
    section: type[BaseModel] | None = RunSpec
    annotation: object = None
    for part in location:
        if section is not None or isinstance(part, int) or get_origin(annotation) is dict:
            names.append(str(part))
        if section is not None and isinstance(part, str):
            field = section.model_fields.get(str(part))
            annotation = field.annotation if field is not None else None
            section = _section_in(annotation)
    return tuple(names)


def _section_in(annotation: object) -> type[BaseModel] | None:
    inner = [choice for choice in (annotation, *get_args(annotation)) if isinstance(choice, type) and issubclass(choice, BaseModel)]
    return inner[0] if inner else None


def _describe(names: Names, problems: Sequence[ErrorDetails]) -> list[str]:
    first, name = problems[0], ".".join(names)
    if first["type"] == "extra_forbidden":
        return [f"`{name}` is not a key; {_hint(names)}"]
    if first["type"] == "missing":
        return [f"`{name}` is missing; {_purpose(names) or 'add it'}"]
    label = f"`{name}`: " if name else ""
    if first["type"] == "value_error":
        return [f"{label}{text}" for text in first["msg"].removeprefix("Value error, ").splitlines()]
    must = ", or ".join(dict.fromkeys(_must(names, problem) for problem in problems)).replace(", or must be ", ", or ")
    if _SECRETS & set(names):
        return [f"{label}{must}"]
    quote = "; put it in quotes" if first["type"] == "string_type" and isinstance(first["input"], int | float) else ""
    return [f"{label}{must} (found {_shorten(first['input'])}){quote}"]


def _must(names: Names, problem: ErrorDetails) -> str:
    if problem["type"] == "string_pattern_mismatch":
        return f"must fit what it does: {_purpose(names).rstrip('.')}"
    message = problem["msg"].replace("Input should be", "must be").replace("greater than or equal to", "at least")
    return _MUST.get(problem["type"], message[:1].lower() + message[1:])


def _hint(names: Names) -> str:
    section = _section_of(names[:-1])
    allowed = sorted(section.model_fields) if section else []
    close = difflib.get_close_matches(names[-1], allowed, n=1)
    return f"did you mean `{close[0]}`?" if close else f"allowed: {', '.join(allowed)}"


def _section_of(names: Names) -> type[BaseModel] | None:
    section: type[BaseModel] | None = RunSpec
    for name in (name for name in names if not name.isdigit()):
        field = section.model_fields.get(name) if section is not None else None
        section = _section_in(field.annotation) if field is not None else None
    return section


def _purpose(names: Names) -> str:
    section = _section_of(names[:-1])
    field = section.model_fields.get(names[-1]) if section else None
    if section is None or field is None:
        return ""
    inner = _section_in(field.annotation)
    return (field.description or (inner.__doc__ if inner else None) or "").strip()


def _shorten(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."

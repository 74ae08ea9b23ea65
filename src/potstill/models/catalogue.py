"""The usual teachers and students by name. It is data: `catalogue.yaml` here, and a user's own file beside it.

The environment variable POTSTILL_CATALOGUE names the user's file, of the same shape: its entries are added, and take the place of
shipped ones of the same name as a whole. It may name several, as PATH does: of two entries of one name the first is taken.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from potstill.errors import SpecError
from potstill.spec.sections import PriceSpec
from potstill.spec.yaml_text import read_yaml


def _day_as_text(day: object) -> object:
    """YAML reads 2026-10-01 as a date, and 2026 as a number."""
    return str(day) if isinstance(day, date | int) else day


class Listed(BaseModel):
    """A price as a provider lists it; null where it is unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    input_per_million: float | None = Field(default=None, ge=0.0)
    """Dollars for a million tokens read."""
    output_per_million: float | None = Field(default=None, ge=0.0)
    """Dollars for a million tokens written."""
    as_of: Annotated[str, BeforeValidator(_day_as_text)] | None = None
    """The day, or month, on which it was read."""
    source: str | None = None
    """Where it was read."""


class Entry(BaseModel):
    """One model of the catalogue: weights (`embedded`, `path` or `hub_id`), an endpoint (`base_url`), or both."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    title: str = ""
    """The model's name for people."""
    roles: tuple[str, ...] = ()
    """What it is usually taken for: teacher, student."""
    hub_id: str | None = None
    """`org/name` on the model hub."""
    path: Path | None = None
    """A model folder or GGUF file on this machine; in a user's file relative to that file."""
    embedded: bool = False
    """Potstill fetches it by itself, without the hub."""
    architecture: str | None = None
    """The model's class in transformers."""
    parameters: float | None = Field(default=None, gt=0.0)
    """How many weights it has."""
    context: int | None = Field(default=None, ge=1)
    """Tokens of prompt and answer together."""
    licence: str | None = None
    """Licence of the weights, or whose terms hold."""
    distillation: str | None = None
    """What the licence or the terms say of training other models on the answers, where it is known."""
    base_url: str | None = None
    """Address of the endpoint, `/v1` included."""
    api_model: str | None = None
    """The name that the endpoint knows it by."""
    api_key_env: str | None = None
    """The environment variable that usually holds the key."""
    sampling: bool = True
    """Whether the endpoint takes `temperature` and `top_p`."""
    price: Listed = Listed()
    """What the endpoint asks."""

    @model_validator(mode="after")
    def _can_be_had(self) -> Entry:
        if not (self.embedded or self.path or self.hub_id or self.base_url):
            raise ValueError("says nowhere where the model is: give `hub_id`, `path` or `base_url`")
        if self.base_url and not self.api_model:
            raise ValueError("has a `base_url` but no `api_model`: the name that the endpoint knows")
        return self

    @property
    def has_weights(self) -> bool:
        """Whether it can be loaded here (not only asked over the wire)."""
        return self.embedded or self.path is not None or self.hub_id is not None

    def price_spec(self) -> PriceSpec | None:
        """The price where both sides of it are known."""
        reads, writes = self.price.input_per_million, self.price.output_per_million
        return None if reads is None or writes is None else PriceSpec(input_per_million=reads, output_per_million=writes)


def entries() -> Mapping[str, Entry]:
    """All entries by name, the user's included. Raises SpecError where a file of the user's is not acceptable."""
    found = dict(_shipped())
    for name in reversed(os.environ.get("POTSTILL_CATALOGUE", "").split(os.pathsep)):
        found |= _read_users(Path(os.path.expanduser(name)).absolute()) if name else {}
    return found


def find(name: str) -> Entry | None:
    """The entry of this name, or None."""
    return entries().get(name)


def near_names(name: str) -> list[str]:
    """Names of the catalogue that look like `name`, the closest first."""
    return difflib.get_close_matches(name.lower().rpartition("/")[2], list(entries()), n=3, cutoff=0.6)


@lru_cache(maxsize=1)
def _shipped() -> dict[str, Entry]:
    text = resources.files("potstill.models").joinpath("catalogue.yaml").read_text(encoding="utf-8")
    # It is sound (tested), and every start waits for it: libyaml reads it in a tenth of the time, where it is there.
    raw = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {name: Entry.model_validate(entry) for name, entry in raw.items()}


def _read_users(path: Path) -> dict[str, Entry]:
    try:
        raw = read_yaml(path.read_text(encoding="utf-8"), path)
    except OSError as error:
        raise SpecError(f"{path}: POTSTILL_CATALOGUE names this file, but it cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    if not isinstance(raw, dict):
        raise SpecError(f"{path}: a catalogue is a mapping of names to entries, as in `my-model: {{path: ./folder}}`")
    return {name: _entry(path, name, entry) for name, entry in raw.items()}


def _entry(path: Path, name: str, raw: Any) -> Entry:
    try:
        entry = Entry.model_validate(raw)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            raise SpecError(f"{path}: `{name}.{key}` is not a key; allowed: {', '.join(sorted(Entry.model_fields))}") from None
        message = problem["msg"].removeprefix("Value error, ")
        raise SpecError(f"{path}: `{name}{f'.{key}' if key else ''}`: {message[:1].lower()}{message[1:]}") from None
    if entry.path is not None:
        entry = entry.model_copy(update={"path": path.parent / os.path.expanduser(entry.path)})
    return entry

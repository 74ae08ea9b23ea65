"""Answers that are JSON: found in a reply, held against a schema, and a task whose answers obey one."""

from __future__ import annotations

import functools
import itertools
import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from potstill.errors import SpecError
from potstill.tasks.around import Around
from potstill.tasks.replies import FENCED, answer_part

_TRIES = 100
"""So many brackets of a sentence are tried as the beginning of its JSON."""
_OPENING = re.compile(r"[{\[]")
_DECODER = json.JSONDecoder()
_NOTHING = object()


@dataclass(frozen=True)
class HeldToSchema(Around):
    """`inner`, whose answers are JSON that obeys a schema. References need not be: they are read as the inner task reads them."""

    obeyed: str

    @property
    def schema(self) -> str:
        """The schema."""
        return self.obeyed

    def parse(self, text: str) -> str | None:
        """The inner task's answer in the JSON of a reply; None where there is none that obeys."""
        read = read_json(answer_part(text))
        if read is None or objection(self.obeyed, read[1]) is not None:
            return None
        return self.inner.parse(read[0])


def read_json(answer: str) -> tuple[str, Any, str] | None:
    """The JSON of an answer as text and as value, and how it was read; None where there is none, or more than one."""
    if (value := _parsed(answer)) is not _NOTHING:
        return answer, value, ""
    if (fenced := FENCED.fullmatch(answer)) and (value := _parsed(fenced[2])) is not _NOTHING:
        return fenced[2].strip(), value, "fenced"
    blocks = [found[2].strip() for found in FENCED.finditer(answer)] or _outermost(answer)
    if len(blocks) == 1 and (value := _parsed(blocks[0])) is not _NOTHING:
        return blocks[0], value, "sentence"
    return None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return _NOTHING


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _outermost(text: str) -> list[str]:
    """The objects and lists in running text, less those within others; _TRIES brackets are looked at."""
    found: list[str] = []
    end = 0
    for opening in itertools.islice(_OPENING.finditer(text), _TRIES):
        if opening.start() < end:
            continue
        try:
            _, end = _DECODER.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            continue
        found.append(text[opening.start() : end])
    return found


def objection(schema: str, value: Any) -> str | None:
    """The deepest thing that is wrong with a value, and where; None where it obeys."""
    from jsonschema.exceptions import best_match
    from referencing.exceptions import Unresolvable

    try:
        fault = best_match(_validator(schema).iter_errors(value))
    except Unresolvable as error:
        raise SpecError(f"the JSON schema of the answers refers to what is not in it: {error}") from None
    if fault is None:
        return None
    place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in fault.absolute_path).lstrip(".")
    return f"{place or 'it'}: {fault.message if len(fault.message) <= 200 else fault.message[:197] + '...'}"


@functools.lru_cache(maxsize=16)
def _validator(schema: str) -> Any:
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry

    parsed = json.loads(schema)
    kind = validator_for(parsed)
    try:
        kind.check_schema(parsed)
    except SchemaError as error:
        raise SpecError(f"the JSON schema of the answers is no schema: {error.message}") from None
    return kind(parsed, registry=Registry())  # an empty one: nothing is fetched from the network

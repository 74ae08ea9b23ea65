"""Drops answers that cannot be read: no label, no number, no letter of a choice, no JSON that obeys the asked-for schema.

How an answer was read stands in the code of the kept ones, strictest first: nothing (it was the bare answer), `case`, `punctuation`,
`reasoning` (after a thinking block), `fenced` (in a code block), `sentence` (within other words). What was fenced, and JSON within a
sentence, is handed on bare, so that the student learns it so.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from typing import Any, NoReturn

from potstill.data.rows import quote
from potstill.errors import SpecError
from potstill.generation.gates.base import GateContext
from potstill.records import Verdict
from potstill.tasks.replies import answer_part

NAME = "format"
VERSION = 2
TRIES = 100
"""So many brackets of a sentence are tried as the beginning of its JSON."""

_FENCED = re.compile(r"(?<![`~])(`{3,20}|~{3,20})[^\n`]*\n(.*?)\n?[ \t]{0,3}\1", re.DOTALL)
_OPENING = re.compile(r"[{\[]")
_LETTERS = re.compile(r"\w+")
_SEPARATORS = re.compile(r"[\s_-]+")
_DECODER = json.JSONDecoder()
_NOTHING = object()


def format_gate(context: GateContext) -> Verdict:
    """Keep answers that `task.parse` reads and that obey `context.schema`. Codes of drops: `unreadable`, `json`, `schema`."""
    if context.schema is not None:
        return _json_verdict(context, context.schema)
    text = context.completion.text
    answer = answer_part(text)
    bare = fenced[2] if (fenced := _FENCED.fullmatch(answer)) else ""
    parsed = context.task.parse(text)
    if parsed != answer and (inner := context.task.parse(bare)) is not None and parsed in (inner, None):
        return Verdict(NAME, True, version=VERSION, code="fenced", text=bare)
    if parsed is None:
        return Verdict(NAME, False, f"no answer of a {context.task.type} task is in {quote(text.strip())}", VERSION, "unreadable")
    return Verdict(NAME, True, version=VERSION, code=_how_read(text, answer, parsed))


def _how_read(text: str, answer: str, parsed: str) -> str:
    if text.strip() == parsed:
        return ""
    if answer != text.strip():
        return "reasoning"
    if _SEPARATORS.sub(" ", answer.casefold()) == _SEPARATORS.sub(" ", parsed.casefold()):
        return "case"
    return "punctuation" if _LETTERS.findall(answer.casefold()) == _LETTERS.findall(parsed.casefold()) else "sentence"


def _json_verdict(context: GateContext, schema: str) -> Verdict:
    answer = answer_part(context.completion.text)
    read = _read_json(answer)
    if read is None:
        return Verdict(NAME, False, f"no JSON is in {quote(answer)}", VERSION, "json")
    bare, value, code = read
    if objection := _objection(schema, value):
        return Verdict(NAME, False, f"the JSON breaks its schema: {objection}", VERSION, "schema")
    if context.task.parse(bare) is None:
        return Verdict(NAME, False, f"no answer of a {context.task.type} task is in {quote(bare)}", VERSION, "unreadable")
    changed = bare if bare != context.completion.text.strip() else None
    return Verdict(NAME, True, version=VERSION, code=code or ("reasoning" if changed else ""), text=changed)


def _read_json(answer: str) -> tuple[str, Any, str] | None:
    """The JSON of an answer as text and as value, and how it was read; None where there is none, or more than one."""
    if (value := _parsed(answer)) is not _NOTHING:
        return answer, value, ""
    if (fenced := _FENCED.fullmatch(answer)) and (value := _parsed(fenced[2])) is not _NOTHING:
        return fenced[2].strip(), value, "fenced"
    blocks = [found[2].strip() for found in _FENCED.finditer(answer)] or _outermost(answer)
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
    """The objects and lists in running text, less those within others; TRIES brackets are looked at."""
    found: list[str] = []
    end = 0
    for opening in itertools.islice(_OPENING.finditer(text), TRIES):
        if opening.start() < end:
            continue
        try:
            _, end = _DECODER.raw_decode(text, opening.start())
        except (ValueError, RecursionError):
            continue
        found.append(text[opening.start() : end])
    return found


def _objection(schema: str, value: Any) -> str | None:
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

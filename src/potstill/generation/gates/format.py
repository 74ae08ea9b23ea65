"""Drops answers that cannot be read: no label, no number, no letter of a choice, no JSON that obeys the asked-for schema.

How an answer was read stands in the code of the kept ones, strictest first: nothing (it was the bare answer), `case`, `punctuation`,
`reasoning` (after a thinking block), `fenced` (in a code block), `sentence` (within other words). What was fenced, and JSON within a
sentence, is handed on bare, so that the student learns it so.
"""

from __future__ import annotations

import re

from potstill.data.rows import quote
from potstill.generation.gates.base import GateContext
from potstill.records import Verdict
from potstill.tasks.replies import FENCED, answer_part
from potstill.tasks.schema import objection, read_json

NAME = "format"
VERSION = 2

_LETTERS = re.compile(r"\w+")
_SEPARATORS = re.compile(r"[\s_-]+")


def format_gate(context: GateContext) -> Verdict:
    """Keep answers that `task.parse` reads and that obey `context.schema`. Codes of drops: `unreadable`, `json`, `schema`."""
    if context.schema is not None:
        return _json_verdict(context, context.schema)
    text = context.completion.text
    answer = answer_part(text)
    bare = fenced[2] if (fenced := FENCED.fullmatch(answer)) else ""
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
    read = read_json(answer)
    if read is None:
        return Verdict(NAME, False, f"no JSON is in {quote(answer)}", VERSION, "json")
    bare, value, code = read
    if fault := objection(schema, value):
        return Verdict(NAME, False, f"the JSON breaks its schema: {fault}", VERSION, "schema")
    if context.task.parse(bare) is None:
        return Verdict(NAME, False, f"no answer of a {context.task.type} task is in {quote(bare)}", VERSION, "unreadable")
    changed = bare if bare != context.completion.text.strip() else None
    return Verdict(NAME, True, version=VERSION, code=code or ("reasoning" if changed else ""), text=changed)

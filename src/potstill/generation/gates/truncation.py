"""Drops answers that stop before their end: a student would learn to stop there too.

The endpoint's word counts first. Some say "stop" for what they cut, so an answer is looked at as well: it must not end inside a code
block, nor, where no sentence ends with it, inside a bracket of its last paragraph or a quotation of its last line. What the row itself
says in the same words (a span, a label) is whole as it is.
"""

from __future__ import annotations

import re
import unicodedata

from potstill.data.rows import quote
from potstill.generation.gates.base import GateContext, is_json
from potstill.records import Verdict

NAME = "truncation"
VERSION = 2

_FENCE = re.compile(r"^ {0,8}(?:(?:>|[-*+]|\d{1,3}[.)])[ \t]{0,8})?(`{3,}|~{3,})", re.MULTILINE)
_PARAGRAPH = re.compile(r"\n\s*\n")
# Brackets that open nothing: in code, after a backslash, between quotes, and as the mouth of a face.
_NO_BRACKET = re.compile(r"`[^`\n]*`|\\.|(['\"])[()\[\]{}]+\1|(?<!\w)[:;=8xX]['’-]?[(\[{<c]|<3")
_INCHES = re.compile(r"(?<=\d)(?:\"|”|''|′′)")
_OPENING, _CLOSING = "([{（［｛【〔〈《「『", ")]}）］｝】〕〉》」』"
_QUOTES = (re.compile('["“”„‟]'), re.compile("[«»]"))
_ENDS = frozenset(".!?。！？．…‽؟۔।॥៕;；")
_AFTER_END = "\"'”’»“)]}）］】」』*_`~ \n\t"


def truncation(context: GateContext) -> Verdict:
    """Keep answers that the teacher ended by itself. Codes: `length`, `content_filter`, `open_block`, `open_bracket`, `open_quote`."""
    completion = context.completion
    if completion.finish_reason == "length":
        reason = f"ran into the token limit after {completion.usage.output_tokens} tokens"
        return Verdict(NAME, False, reason, VERSION, "length")
    if completion.finish_reason == "content_filter":
        return Verdict(NAME, False, "was cut by the provider's content filter", VERSION, "content_filter")
    text = completion.text.strip()
    code = left_open(text)
    if code is None or _row_says(context, text):
        return Verdict(NAME, True, version=VERSION)
    return Verdict(NAME, False, f"ends inside a {code.removeprefix('open_')}: ...{quote(text[-40:])}", VERSION, code)


def left_open(text: str) -> str | None:
    """What a text ends inside of: `open_block`, `open_bracket`, `open_quote`; None where nothing is left open."""
    tail = _after_code(text)
    if tail is None:
        return "open_block"
    structured = text[:1] in ("{", "[")
    last = text if structured else _PARAGRAPH.split(tail)[-1]
    if is_json(text) if structured else _ended(last):
        return None
    bare = _NO_BRACKET.sub(" ", last)
    if _open_brackets(bare):
        return "open_bracket"
    plain = _INCHES.sub("", bare.rpartition("\n")[2])
    return "open_quote" if any(len(marks.findall(plain)) % 2 for marks in _QUOTES) else None


def _after_code(text: str) -> str | None:
    """What follows the last code block, or the text where there is none; None inside a block."""
    opened, place = "", 0
    for mark in _FENCE.finditer(text):
        if not opened:
            opened, place = mark[1], mark.end()
        elif mark[1].startswith(opened):
            opened, place = "", mark.end()
    closed_late = text[place:].endswith(opened)  # by a fence at the end of a line of code
    return text[place:] if not opened else "" if closed_late else None


def _ended(text: str) -> bool:
    """Whether a sentence ends with the text, or a picture does, or there is no text."""
    core = text.rstrip(_AFTER_END)
    return not text.strip() or (bool(core) and (core[-1] in _ENDS or unicodedata.category(core[-1]) in ("So", "Sk", "Cf", "Mn")))


def _open_brackets(text: str) -> int:
    """Brackets that are not closed. Any kind closes any other, as in [0, 1); `a)` closes nothing."""
    depth = 0
    for character in text:
        depth += 1 if character in _OPENING else -1 if character in _CLOSING and depth else 0
    return depth


def _row_says(context: GateContext, text: str) -> bool:
    return any(text in known for known in (*(message.content for message in context.messages), *context.example.reference))

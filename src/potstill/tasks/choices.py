"""Multiple choice: the letter that a reply chooses, and the letters that a prompt offers."""

from __future__ import annotations

import re

from potstill.tasks.replies import layers

# A and I are words too: "the answer is I don't know".
_GOES_ON = "(?:because|since|as|for|and|or|is|was|due)\\b"
_LETTER = rf"(?:[B-HJ-Z]\b(?!['’])|[AI]\b(?!['’]|\s+(?!{_GOES_ON})[a-z]))"
_CLOSED = r"[)\]\"'*`]*"
_DENIED = rf"{_CLOSED}\s+(?:is|was)\s+(?:wrong|incorrect|false|not)\b"
_OTHER = rf"{_CLOSED}\s*(?:,?\s*(?:or|and|&|/)\s*[(*\"']*{_LETTER}|,\s*[(*\"']*{_LETTER}{_CLOSED}\s*(?:[,.]|$|or\b|and\b))"
_ANCHORED = re.compile(
    r"\b(?i:answer|option|choice)\b[\s:*]*(?i:\bis\b)?[\s:*\"'`]*(?i:option\s+)?"
    rf"(?:\(?({_LETTER})|\(?([a-z])\))(?!{_DENIED})({_OTHER})?"
)
_LEADING = re.compile(
    rf"[*_`\"']*(?:\(([A-Za-z])\)|([A-Za-z])[).:]|([A-Z])\s+is\s+(?:the\s+)?(?:correct|right|best|answer)\b)(?!\w|{_DENIED})"
)
_BRACKETED = re.compile(r"(?<!\bnot\s)\(([A-Z])\)")
# Within a line "A." may end a sentence (vitamin A.), so options there must have a bracket.
_OPTION = re.compile(r"(?:^\s*[(\[]?([A-Za-z])[).:\]]+|(?<=\s)[(\[]?([A-Za-z])[)\]]+)(?=\s|$)", re.MULTILINE)


def chosen_letter(reply: str) -> str | None:
    """The one letter that a reply chooses, in upper case; None where it gives none, or leaves open which.

    Read in this order: the whole reply; what follows the last `answer is`, `option` or `choice`; a first or last line of its own;
    what lines start with; the only letter in brackets.
    """
    if letter := _alone(reply):
        return letter
    if anchored := list(_ANCHORED.finditer(reply)):
        capital, small, other = anchored[-1].groups()
        return None if other else (capital or small).upper()
    lines = [line.strip() for line in reply.splitlines() if line.strip()]
    for found in (
        {letter for line in lines[:1] + lines[-1:] if (letter := _alone(line))},
        {"".join(group or "" for group in start.groups()).upper() for line in lines if (start := _LEADING.match(line))},
        set(_BRACKETED.findall(reply)),
    ):
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def listed_options(prompt: str) -> tuple[str, ...]:
    """The letters of the options that a prompt lists from A on: `A.`, `B)`, `(C)` at line starts, or `A)`, `(B)` anywhere."""
    options = ""
    for pair in _OPTION.findall(prompt):
        letter = "".join(pair).upper()
        if letter == chr(ord("A") + len(options)):
            options += letter
    return tuple(options) if len(options) > 1 else ()


def _alone(text: str) -> str | None:
    return next((layer.upper() for layer in layers(text) if re.fullmatch(r"[A-Za-z]", layer)), None)

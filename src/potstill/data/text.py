"""What of a row is compared: its questions in a normal form, a hash of them, their three-word shingles."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from potstill.records import Example
from potstill.tasks.letters import MARKS, PUNCTUATION

SHINGLE_WORDS = 3

UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Characters of scripts that are written without blanks, as a regular expression's class: each counts as a word."""
_LETTER = r"[^\W\d_]"
_SIGN = rf"(?:[^\w\s{PUNCTUATION}{MARKS}]|[*/%&#@\\])"
_WORDS = re.compile(
    rf"""
    [^\W_{UNSPACED}]+(?:[{MARKS}]+[^\W_{UNSPACED}]*)*     # a word,
    | (?=\S)(?: [{UNSPACED}]                              # one character of a script that is written without blanks,
        | {_SIGN} | (?<!{_LETTER})- | -(?!{_LETTER})       # or a sign, so that 3 + 4 is not 3 * 4; punctuation does not count,
        | [(\[{{](?=\d|-|{_SIGN}|{_LETTER}\b)              # and brackets only where they may be of a formula
        | (?<=\d|{_SIGN}|\b{_LETTER})[)\]}}]
    )
    """,
    re.VERBOSE,
)
_APOSTROPHE = re.compile(rf"['’](?<={_LETTER}.)(?={_LETTER})")


def prompt_text(example: Example) -> str:
    """What a row asks, with its history: all its messages but the system prompt."""
    return "\n".join(message.content for message in example.messages if message.role != "system")


def compared_text(example: Example, *, with_system: bool) -> str:
    """What makes a row the same as another: the user's turns, and the system prompt where that is asked for.

    Assistant turns are answers: the same question with another answer is the same question.
    """
    roles = ("system", "user") if with_system else ("user",)
    return "\n".join(message.content for message in example.messages if message.role in roles)


def system_text(example: Example) -> str | None:
    """The row's system prompt."""
    return next((message.content for message in example.messages if message.role == "system"), None)


def normalise(text: str) -> str:
    """Text without its accidents: upper case, runs of blanks, two ways to write one accented letter (NFC).

    Not NFKC: that would make 5² and 52 one question.
    """
    folded = text.casefold()
    if not text.isascii():
        # The lower case of İ is an i with one dot more.
        folded = unicodedata.normalize("NFC", text).casefold().replace("i\u0307", "i")
    return " ".join(folded.split())


def words_of(text: str) -> list[str]:
    """The words and signs of a text after `normalise`, punctuation aside; of a script without blanks each character."""
    return _WORDS.findall(_APOSTROPHE.sub("", normalise(text)))


def shingles(text: str) -> frozenset[str]:
    """The runs of three words in a text (after `normalise`), punctuation aside; a shorter text is one shingle, one without words none."""
    words = words_of(text)
    if len(words) <= SHINGLE_WORDS:
        return frozenset((" ".join(words),)) if words else frozenset()
    return frozenset(map(" ".join, zip(words, words[1:], words[2:], strict=False)))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Shared shingles over all shingles of both: |A ∩ B| / |A ∪ B|; 0 where both are empty."""
    shared = len(one & other)
    total = len(one) + len(other) - shared
    return shared / total if total else 0.0


def hash64(text: str) -> int:
    """64 bits of BLAKE2b: the same in every process; two of a million texts share them with a chance of 3e-8."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")

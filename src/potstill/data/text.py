"""What of a row is compared: its prompt in a normal form, a hash of it, its three-word shingles."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from potstill.records import Example

SHINGLE_WORDS = 3

UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Characters of scripts that are written without blanks, as a regular expression's class: each counts as a word."""

# A word, or one sign of punctuation (so that 3 + 4 is not 3 * 4).
_WORDS = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s]")


def prompt_text(example: Example) -> str:
    """What a row asks: all its messages but the system prompt."""
    return "\n".join(message.content for message in example.messages if message.role != "system")


def normalise(text: str) -> str:
    """Text without its accidents: upper case, runs of blanks, two ways to write one accented letter (NFC).

    Not NFKC: that would make 5² and 52 one question.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.casefold().split())


def shingles(text: str) -> frozenset[str]:
    """The runs of three words in a text (after `normalise`); a shorter text is one shingle."""
    words = _WORDS.findall(normalise(text))
    if len(words) <= SHINGLE_WORDS:
        return frozenset((" ".join(words),))
    return frozenset(map(" ".join, zip(words, words[1:], words[2:], strict=False)))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Shared shingles over all shingles of both: |A ∩ B| / |A ∪ B|; 0 where both are empty."""
    shared = len(one & other)
    total = len(one) + len(other) - shared
    return shared / total if total else 0.0


def hash64(text: str) -> int:
    """64 bits of BLAKE2b: the same in every process; two of a million texts share them with a chance of 3e-8."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")

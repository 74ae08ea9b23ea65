"""Unicode categories as contents of character classes: Python's `re` knows letters and digits, but neither marks nor punctuation."""

from __future__ import annotations

import re
import unicodedata


def _of_category(first: str) -> str:
    # Of the basic plane: the scripts beyond it are ancient.
    return re.escape("".join(sign for sign in map(chr, range(0x10000)) if unicodedata.category(sign)[0] == first))


MARKS = _of_category("M")
"""What stands on, under or around a letter: accents, and the vowels of Hindi, Tamil, Arabic."""
PUNCTUATION = _of_category("P")
"""Signs of writing; `-`, `/`, `%`, `&`, `*`, `#`, `@` and `\\` are among them, `+`, `<`, `=` and `$` are not."""

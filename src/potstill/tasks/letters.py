"""Unicode categories as contents of character classes: Python's `re` knows letters and digits, but neither marks nor punctuation."""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby

# Of the basic plane: the scripts beyond it are ancient.
_FIRST = [unicodedata.category(chr(code))[0] for code in range(0x10000)]


def _of_category(first: str) -> str:
    # In ranges: compiled one by one, they would take as long as all else that a command imports for them.
    codes = (code for code, found in enumerate(_FIRST) if found == first)
    runs = [list(run) for _, run in groupby(enumerate(codes), lambda pair: pair[1] - pair[0])]
    return "".join(f"{re.escape(chr(run[0][1]))}-{re.escape(chr(run[-1][1]))}" for run in runs)


MARKS = _of_category("M")
"""What stands on, under or around a letter: accents, and the vowels of Hindi, Tamil, Arabic."""
PUNCTUATION = _of_category("P")
"""Signs of writing; `-`, `/`, `%`, `&`, `*`, `#`, `@` and `\\` are among them, `+`, `<`, `=` and `$` are not."""

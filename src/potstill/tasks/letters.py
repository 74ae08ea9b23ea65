"""Unicode categories as contents of character classes: Python's `re` knows letters and digits, but neither marks nor punctuation."""

from __future__ import annotations

import re
import unicodedata

# Of the basic plane: the scripts beyond it are ancient.
_FIRST = "".join([unicodedata.category(chr(code))[0] for code in range(0x10000)])


def _of_category(first: str) -> str:
    # In ranges: compiled one by one, they would take as long as all else that a command imports for them.
    runs = re.finditer(f"{first}+", _FIRST)
    return "".join(f"{re.escape(chr(run.start()))}-{re.escape(chr(run.end() - 1))}" for run in runs)


MARKS = _of_category("M")
"""What stands on, under or around a letter: accents, and the vowels of Hindi, Tamil, Arabic."""
PUNCTUATION = _of_category("P")
"""Signs of writing; `-`, `/`, `%`, `&`, `*`, `#`, `@` and `\\` are among them, `+`, `<`, `=` and `$` are not."""

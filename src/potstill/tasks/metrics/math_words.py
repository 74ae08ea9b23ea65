"""Words in an answer, told from products of letters: `5 hours` holds a word; `2xy`, `ab + c` and `AB = CD` hold none."""

from __future__ import annotations

import re

_FUNCTIONS = re.compile(r"\\(?:text|mathrm|operatorname)\{[^{}]*\}|\\[A-Za-z]+|\b(?:sin|cos|tan|log|ln|exp|sqrt|pi|inf)\b")
_TEXT = re.compile(r"\\(?:text|mathrm|operatorname)\{([^{}]*)\}")
_CONJUNCTION = re.compile(r"(?<=\S)\s+(?:or|and)\s+(?=\S)")  # "x = 2 or x = 3" is a set of values

_LETTER = "[A-Za-z\u0370-\u03ff]"  # letters that formulas are written with
_FOREIGN = "[^\\W\\d_A-Za-z\u0370-\u03ff]"
_SHORT = "(?i:a[mnst]|b[ey]|do|go|he|i[fnst]|m[ey]|no|o[fnr]|so|to|up|us|we)"
_SURE = "(?i:all|and|are|but|can|for|has|her|his|its|not|one|six|ten|the|two|was|yes|you)"
_SIGN = "[-+*/=^×·]"
_WORD = re.compile(
    rf"""
    {_LETTER}*{_FOREIGN}(?:{_LETTER}|{_FOREIGN})+ | {_LETTER}+{_FOREIGN}    # a run with a letter that no formula has
    | (?<![^\s("'])                                                         # or, between blanks,
      (?: {_SURE}
        | (?<!{_SIGN}\s)                                                    # what is no factor or summand:
          (?: {_SHORT}                                                      # a short word, or three letters and more,
            | (?={_LETTER}+['’.-]?{_LETTER}{{2}})                           # not all of them capitals,
              (?=[A-Z]*[a-z\u0370-\u03ff]) {_LETTER}+(?:['’.-]{_LETTER}+)*
          )
          (?!\s*{_SIGN})
      )
      (?![^\s.,;:!?)"'])
    """,
    re.VERBOSE,
)


def has_words(text: str) -> bool:
    """Whether a text holds words, and so is no formula as it stands; LaTeX commands and their texts do not count."""
    formula = _FUNCTIONS.sub(" ", " ".join(text.split()))
    return _WORD.search(_CONJUNCTION.sub(", ", formula)) is not None


def before_words(text: str) -> str:
    """What stands before the first word."""
    return _WORD.split(text, maxsplit=1)[0]


def between_words(text: str) -> list[str]:
    """The parts of a text that words stand between: `about 5 hours` → `5`."""
    return [part.strip() for part in _WORD.split(_TEXT.sub(" or ", text)) if any(sign.isalnum() for sign in part)]


def as_text(text: str) -> str:
    """A text in words as LaTeX writes it, so that nobody multiplies its letters: `\\text{no solution}`."""
    bare = re.sub(r"[{}$]", "", _TEXT.sub(r"\1", text))
    return f"\\text{{{bare}}}"


def plain_text(formula: str) -> str:
    """A formula in which parts that are text stand as such, in lower case (math-verify takes letters so too)."""
    return " ".join(_TEXT.sub(r"\1", formula).split()).casefold()

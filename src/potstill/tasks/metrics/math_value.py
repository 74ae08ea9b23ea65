"""Answers to sums: where they stand in a reply, in which normal form, and whether two are one value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from potstill.tasks.metrics.base import Mean
from potstill.tasks.metrics.math_judge import shared_judge
from potstill.tasks.metrics.math_words import as_text, before_words, between_words, has_words, plain_text

_INTEGER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)"
_NUMBER = re.compile(
    rf"(?<![\w.])(?:(?<![)\]}}])[-−+])?[$€£¥₹]?(?:\d+\s+\d+/\d+|{_INTEGER}(?:\.\d+)?(?:[eE][-+]?\d+\b)?(?:\s*/\s*\d+)?|\.\d+)(?:\s?\\?%)?"
)
_PLAIN = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,2})?")
_MIXED = re.compile(r"([-+]?)(\d+)\s+(\d+)/(\d+)")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_GROUPED = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?%?")
_HASHES = re.compile(r"####\s*(.+)")
_ANCHOR = re.compile(r"\banswers?\b(?:[^\n:=.]{0,60}?\b(?:is|are)\b|\s*(?:\([^)\n]*\))?[\s*]*[:=])[\s:*]*(.+)", re.IGNORECASE)
_DELIMITED = re.compile(r"\$\$?([^$\n]+)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]")
_SENTENCE_END = re.compile(r"[.!?]\s|\n")
_ARTICLE = re.compile(r"[AaI]\s")
_VARIABLE = re.compile(r"[A-Za-z](?:_\w+)?(?:\([a-z]\))?|[A-Za-z]{3,}")
_ARITHMETIC = re.compile(r"[\d\s.,+\-*/×÷^()$%=]+")
_PER = r"\s?/\s?(?:[hs]|hr|min|minute|hour|day|week|month|year|kg|person)"
_UNIT = re.compile(
    rf"([-+]?[\d.,]*\d)(?:(?:\s+[CFKLVWghlms]|\s*(?:[ckm]m|k[gmW]|m[gLl]|ft|in|lbs?|oz|hrs?|min|mph|[ap]m|st|nd|rd|th))"
    rf"(?:\^?[23]|[²³])?(?:{_PER})?|{_PER})"
)
_CLUTTER = re.compile(r"\\[!,;]|\\left|\\right|(?<!\\)\\\s")


def math_accuracy(labels: Sequence[str] = ()) -> Mean:
    """Share of answers whose value equals a reference's by math-verify; a comparison that does not end counts as different."""
    del labels
    return Mean("math_accuracy", "Accuracy (value)", lambda answer, reference: float(same_value(reference, answer) is True))


def same_value(gold: str, answer: str) -> bool | None:
    """Whether the final answers of two texts are one value; None where math-verify cannot settle it in time.

    Equal normal forms and whole numbers are settled here; all else (fractions, decimals to six places, percentages, expressions,
    sets, equations) by math-verify, from any thread.
    """
    left, right = final_answer(gold) or gold.strip(), final_answer(answer) or answer.strip()
    if plain_text(left) == plain_text(right):
        return bool(left)
    if left.lstrip("-").isdecimal() and right.lstrip("-").isdecimal():
        return False
    return shared_judge().same(left, right)


def final_answer(text: str) -> str | None:
    """The final answer of a solution in its normal form (`$1,234.50` → `1234.5`, `2 1/2` → `5/2`); None where there is none.

    Looked for in this order: the last \\boxed{} (as it stands, but for words around it), the last `#### ...`, the last `answer is ...`,
    the text itself where it is an expression, the number after the `=` of the last sentence, the last number.
    """
    boxed = _last_boxed(text)
    if boxed:
        return _boxed_value(boxed) or None
    for pattern in (_HASHES, _ANCHOR):
        found = pattern.findall(text)
        value = _value(found[-1]) if found else None
        if value:
            return value
    if _is_expression(text):
        return _normal(text)
    numbers = _NUMBER.findall(text)
    if not numbers:
        return None
    # "40 - 33 = 7 apples are left after 3 days": what is worked out, not what is mentioned last.
    _, equals, right = _SENTENCE_END.split(text.strip())[-1].rpartition("=")
    worked_out = _NUMBER.findall(right) if equals else []
    return _normal(worked_out[0] if worked_out else numbers[-1])


def _last_boxed(text: str) -> str | None:
    start = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if start < 0:
        return None
    depth = 0
    for place in range(text.index("{", start), len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[text.index("{", start) + 1 : place]
    return None  # cut off before the brace closed


def _boxed_value(inner: str) -> str:
    alone = inner.isascii() and len(inner.split()) == 1
    if alone or not has_words(inner):
        return _normal(inner)
    parts = between_words(inner)
    return _normal(parts[0]) if len(parts) == 1 else as_text(inner)


def _value(tail: str) -> str | None:
    """The answer in what follows `answer is`: an expression, what stands between dollars, what goes before words, or the first number."""
    if _is_expression(tail):
        return _normal(tail)
    for groups in _DELIMITED.findall(tail):
        inner = next(group for group in groups if group)
        if _is_expression(inner):
            return _normal(inner)
    start = before_words(_SENTENCE_END.split(tail)[0])
    if _is_expression(start) and not _ARTICLE.match(start.lstrip()):
        return _normal(start)
    _, equals, right = tail.rpartition("=")
    numbers = (_NUMBER.findall(right) if equals else []) or _NUMBER.findall(tail)
    return _normal(numbers[0]) if numbers else None


def _is_expression(text: str) -> bool:
    bare = _strip(text)
    if not bare or "\n" in bare or bare[-1] in "+-*/=^(" or re.search(r"[.!?:;]\s|[\"“”]", bare):
        return False
    return not has_words(bare) and any(letter.isalnum() for letter in bare)


def _strip(text: str) -> str:
    bare = text.strip().strip("*`").strip()
    for opening, closing in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if bare.startswith(opening) and bare.rstrip(".").endswith(closing) and len(bare.rstrip(".")) >= len(opening + closing):
            bare = bare.rstrip(".")[len(opening) : -len(closing)]
    return bare.strip().rstrip(".,;").strip()


def _normal(text: str) -> str:
    bare = _CLUTTER.sub("", _strip(text).replace("−", "-").replace("\\%", "%").replace("\\$", "$")).strip()
    bare = re.sub(r"^([-+]?)[$€£¥₹\s]+", r"\1", bare)
    if unit := _UNIT.fullmatch(bare):
        bare = unit[1]
    name, _, worth = bare.partition("=")
    if worth.strip() and _VARIABLE.fullmatch(name.strip()) and ("=" not in worth or _ARITHMETIC.fullmatch(worth)):
        bare = worth.strip()
    if _ARITHMETIC.fullmatch(bare) and bare[-1] != "=":
        bare = bare.rpartition("=")[2].strip()
    if _GROUPED.fullmatch(bare):
        bare = _THOUSANDS.sub("", bare)
    if mixed := _MIXED.fullmatch(bare):
        whole, part, of = (int(group) for group in mixed.groups()[1:])
        return mixed[1].replace("+", "") + str(Fraction(whole) + Fraction(part, of)) if of else bare
    if _PLAIN.fullmatch(bare):
        number = Decimal(bare)
        plain = format(number, "f")
        plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
        return plain if number else "0"
    return bare

"""What every task takes off a reply before it reads the answer."""

from __future__ import annotations

import re
from collections.abc import Iterator

_REASONING_ENDS = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_REASONING_STARTS = re.compile(r"\s*<think(?:ing)?>", re.IGNORECASE)
FENCED = re.compile(r"(?<![`~])(`{3,20}|~{3,20})[^\n`]*\n(.*?)\n?[ \t]{0,3}\1", re.DOTALL)
"""A code block; its content is the second group."""
_BULLET = re.compile(r"(?:[-*•]|#{1,6}|\d{1,2}[.)])\s+")
_WRAPPERS = frozenset("\"'`*_“”‘’«»„‹›()[]{}<>")
_ENDINGS = frozenset(".,;:!")


_ANSWER = re.compile(r"^[\s>#*_`-]*(?:the\s+)?(?:final\s+)?answer[*_`]*\s*(?:is\s*)?[:=][*_`]*[ \t]*", re.IGNORECASE | re.MULTILINE)


def split_reasons(text: str) -> tuple[str | None, str]:
    """The reasons and the answer of a reply that ends in `Answer: ...`; (None, text) where it does not tell them apart."""
    found = list(_ANSWER.finditer(text))
    if not found:
        return None, text
    reasons, answer = text[: found[-1].start()].strip(), text[found[-1].end() :].strip()
    return (reasons or None, answer) if answer else (None, text)


def answer_part(text: str) -> str:
    """The reply without the reasoning that thinking models put before it; empty where the reasoning never ends."""
    *reasoning, answer = _REASONING_ENDS.split(text)
    if not reasoning and _REASONING_STARTS.match(text):
        return ""
    return answer.strip()


def layers(text: str) -> Iterator[str]:
    """`text`, then with each layer of bullets, quotes, brackets, markdown and final punctuation taken off, outermost first."""
    core = text.strip()
    while core:
        yield core
        inner = _BULLET.sub("", core, count=1) if _BULLET.match(core) else core
        if inner == core:
            inner = _peel(core)
        inner = inner.strip()
        if inner == core:
            return
        core = inner


def _peel(core: str) -> str:
    start = 1 if core[0] in _WRAPPERS else 0
    end = len(core) - (1 if core[-1] in _WRAPPERS or core[-1] in _ENDINGS else 0)
    return core[start:end]

"""What kind of task rows are of, where nobody says: read off their references."""

from __future__ import annotations

import re
from collections.abc import Sequence

from potstill.records import Example
from potstill.spec import TaskSpec

_NUMBER = re.compile(r"[-+]?[$€£]?\d[\d,]*(\.\d+)?%?")
_LONGEST_LABEL = 60
_MOST_LABELS = 200
_LONGEST_SPAN = 12


def guess_task(rows: Sequence[Example]) -> TaskSpec:
    """The task of `rows`, by the first of these that holds.

    `nli`: every row has one short reference, and there are at most half as many different ones as rows (a tenth for numbers).
    `math`: the references are numbers. `conversation`: assistant turns stand in the rows. `qa`, extractive: each reference is a
    short piece of its prompt. Else `summarization`, which takes any text for an answer. Say what it is wherever you know.
    """
    references = [reference for row in rows for reference in row.reference]
    numeric = bool(references) and all(_NUMBER.fullmatch(_last_line(text)) for text in references)
    if references and _is_closed_set(references, numeric) and all(len(row.reference) == 1 for row in rows):
        return TaskSpec(type="nli", labels=tuple(sorted(set(references))))
    if numeric:
        return TaskSpec(type="math")
    if any(message.role == "assistant" for row in rows for message in row.messages):
        return TaskSpec(type="conversation")
    if references and all(_is_span(row) for row in rows if row.reference):
        return TaskSpec(type="qa")
    return TaskSpec(type="summarization")


def _is_closed_set(references: Sequence[str], numeric: bool) -> bool:
    different = {text.strip().casefold() for text in references}
    most = max(2, len(references) // (10 if numeric else 2))
    return 2 <= len(different) <= min(most, _MOST_LABELS, len(references) - 1) and max(map(len, different)) <= _LONGEST_LABEL


def _is_span(row: Example) -> bool:
    prompt = " ".join(message.content for message in row.messages).casefold()
    return any(len(text.split()) <= _LONGEST_SPAN and text.casefold() in prompt for text in row.reference)


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].removeprefix("####").strip() if lines else ""

"""A judge's words: which of two answers is better, or how good one is (Zheng et al. 2023, arXiv 2306.05685).

What is asked and how its reply is read; who wins is for the callers to say, who ask in both orders.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from potstill.models.talk import Answered, Ask, Seat
from potstill.records import Message, Request
from potstill.tasks.prompting.base import separate_thinking

VERSION = "judge/1"
_CRITERIA = "Judge whether they are right, complete and to the point; their length and order do not matter."
_SYSTEM = (
    "You compare two answers to the same request. {criteria} Say in one sentence what decides, then write on a last line `Better: A`, "
    "`Better: B` or `Better: neither`."
)
_MARK_SYSTEM = (
    "You mark an answer to a request: is it right, complete and to the point? Say in one sentence what decides, then write on a last line "
    "`Mark: N`, N a whole number from 0 (useless) to 10 (could not be better)."
)
# At the end of the last line, and a sentence of its own: "Answer B is better. A misses the point." names no winner.
_BETTER = re.compile(r"(?:^|[.!?]\s)\W*(?:the\s+)?better\W*(?:answer\W*)?(?:is\W*)?\b(A|B|neither)\W*$", re.IGNORECASE)
_MARK = re.compile(r"(?:^|[.!?]\s)\W*mark[\s:*_]*(?:is[\s:*_]*)?(\d+(?:\.\d+)?)(?:\s*/\s*10)?\W*$", re.IGNORECASE)
Better = Literal["A", "B", "NEITHER"]


def compare(
    seat: Seat, messages: Sequence[Message], references: Sequence[str], first: str, second: str, *, rubric: str | None = None
) -> Ask:
    """The question to `seat` which of two answers to `messages` is better; the first reference is shown as a right answer.

    `rubric` is what to judge by, in place of Potstill's own words.
    """
    criteria = _CRITERIA if rubric is None else f"Judge by this alone; their order does not matter:\n{rubric.strip()}\n"
    words = f"{_request_text(messages, references)}\n\n# Answer A\n{first}\n\n# Answer B\n{second}"
    return _ask(seat, _SYSTEM.format(criteria=criteria), words)


def mark(seat: Seat, messages: Sequence[Message], references: Sequence[str], answer: str) -> Ask:
    """The question to `seat` how good one answer to `messages` is."""
    return _ask(seat, _MARK_SYSTEM, f"{_request_text(messages, references)}\n\n# Answer\n{answer}")


def read_better(answered: Answered) -> Better | None:
    """`A`, `B` or `NEITHER`; None where the judge's last line does not say, or was cut off."""
    found = _BETTER.search(_last_line(answered))
    said: Better | None = found[1].upper() if found else None  # type: ignore[assignment]  # the pattern names these three
    return said


def read_mark(answered: Answered) -> float | None:
    """The mark, 0 to 1; None where the judge's last line gives none: then the answer is unscored, neither good nor bad."""
    found = _MARK.search(_last_line(answered))
    return float(found[1]) / 10 if found and float(found[1]) <= 10 else None


def _last_line(answered: Answered) -> str:
    completion = separate_thinking(answered.completion)
    lines = completion.text.strip().splitlines() if completion.finish_reason == "stop" else []
    return lines[-1].strip() if lines else ""


def _ask(seat: Seat, system: str, words: str) -> Ask:
    messages = (Message("system", system), Message("user", words))
    return Ask(seat, Request(messages, seat.sampling, prompt_version=VERSION))


def request_turns(messages: Sequence[Message]) -> str:
    """What was asked, as a judge is shown it."""
    return "\n\n".join(f"[{message.role}]\n{message.content}" for message in messages)


def _request_text(messages: Sequence[Message], references: Sequence[str]) -> str:
    gold = "".join(f"\n\n# A right answer\n{reference}" for reference in references[:1])
    return f"# Request\n{request_turns(messages)}{gold}"

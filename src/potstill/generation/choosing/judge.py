"""The best answer by a judge's word: each is held against the best so far, in both orders (Zheng et al. 2023, arXiv 2306.05685)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from potstill.generation.candidate import Candidate
from potstill.generation.choosing.base import Chosen, Situation, kept
from potstill.generation.prompting.base import separate_thinking
from potstill.generation.talk import Answered, Ask, Seat, Step, Talk
from potstill.records import Message, Request

VERSION = "judge/1"
_SYSTEM = (
    "You compare two answers to the same request. Judge whether they are right, complete and to the point; their length and order do not "
    "matter. Say in one sentence what decides, then write on a last line `Better: A`, `Better: B` or `Better: neither`."
)
_MARK_SYSTEM = (
    "You mark an answer to a request: is it right, complete and to the point? Say in one sentence what decides, then write on a last line "
    "`Mark: N`, N a whole number from 0 (useless) to 10 (could not be better)."
)
# At the end of the last line, and a sentence of its own: "Answer B is better. A misses the point." names no winner.
_BETTER = re.compile(r"(?:^|[.!?]\s)\W*(?:the\s+)?better\W*(?:answer\W*)?(?:is\W*)?\b(A|B|neither)\W*$", re.IGNORECASE)
_MARK = re.compile(r"(?:^|[.!?]\s)\W*mark[\s:*_]*(?:is[\s:*_]*)?(\d+(?:\.\d+)?)(?:\s*/\s*10)?\W*$", re.IGNORECASE)


def judge(situation: Situation, candidates: Sequence[Candidate]) -> Talk[Chosen]:
    """The kept answer that wins every comparison since; a judge that contradicts itself, or says nothing, leaves the earlier one."""
    best: Candidate | None = None
    judged: list[Answered] = []
    for candidate in kept(candidates):
        if best is None or candidate.text.strip() == best.text.strip():
            best = best or candidate
            continue
        seat = situation.judge_of(best, candidate)
        asks = (compare(situation, best.text, candidate.text, seat), compare(situation, candidate.text, best.text, seat))
        straight, swapped = yield Step(asks)
        judged += straight, swapped
        if read_better(straight) == "B" and read_better(swapped) == "A":
            best = candidate
    return Chosen((best,) if best is not None else (), judged=tuple(judged))


def compare(situation: Situation, first: str, second: str, seat: Seat) -> Ask:
    """The question to `seat` which of two answers is better."""
    words = f"{_request_text(situation)}\n\n# Answer A\n{first}\n\n# Answer B\n{second}"
    return _ask(seat, _SYSTEM, words)


def mark(situation: Situation, answer: str, seat: Seat) -> Ask:
    """The question to `seat` how good one answer is."""
    return _ask(seat, _MARK_SYSTEM, f"{_request_text(situation)}\n\n# Answer\n{answer}")


def read_better(answered: Answered) -> str | None:
    """`A`, `B` or `NEITHER`; None where the judge's last line does not say, or was cut off."""
    found = _BETTER.search(_last_line(answered))
    return found[1].upper() if found else None


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


def request_turns(situation: Situation) -> str:
    """What was asked, as a judge is shown it."""
    return "\n\n".join(f"[{message.role}]\n{message.content}" for message in situation.messages)


def _request_text(situation: Situation) -> str:
    gold = "".join(f"\n\n# A right answer\n{reference}" for reference in situation.example.reference[:1])
    return f"# Request\n{request_turns(situation)}{gold}"

"""The best answer by a judge's word: each is held against the best so far, in both orders (Zheng et al. 2023, arXiv 2306.05685)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from potstill.generation.candidate import Candidate
from potstill.generation.choosing.base import Chosen, Situation, kept
from potstill.generation.talk import Answered, Ask, Step, Talk
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
_BETTER = re.compile(r"better\W*(?:answer\W*)?(?:is\W*)?\b(A|B|neither)\b", re.IGNORECASE)
_MARK = re.compile(r"mark\W*(?:is\W*)?(\d+(?:\.\d+)?)(?:\s*/\s*10)?", re.IGNORECASE)


def judge(situation: Situation, candidates: Sequence[Candidate]) -> Talk[Chosen]:
    """The kept answer that wins every comparison since; a judge that contradicts itself, or says nothing, leaves the earlier one."""
    best: Candidate | None = None
    for candidate in kept(candidates):
        if best is None or candidate.text.strip() == best.text.strip():
            best = best or candidate
            continue
        asks = (compare(situation, best.text, candidate.text), compare(situation, candidate.text, best.text))
        straight, swapped = yield Step(asks)
        if read_better(straight) == "B" and read_better(swapped) == "A":
            best = candidate
    return Chosen((best,) if best is not None else ())


def compare(situation: Situation, first: str, second: str) -> Ask:
    """The question which of two answers is better."""
    words = f"{_request_text(situation)}\n\n# Answer A\n{first}\n\n# Answer B\n{second}"
    return _ask(situation, _SYSTEM, words)


def mark(situation: Situation, answer: str) -> Ask:
    """The question how good one answer is."""
    return _ask(situation, _MARK_SYSTEM, f"{_request_text(situation)}\n\n# Answer\n{answer}")


def read_better(answered: Answered) -> str | None:
    """`A`, `B` or `NEITHER`; None where the judge did not say."""
    found = _BETTER.findall(answered.completion.text)
    return found[-1].upper() if found else None


def read_mark(answered: Answered) -> float | None:
    """The mark, 0 to 1; None where the judge gave none: then the answer is unscored, neither good nor bad."""
    found = _MARK.findall(answered.completion.text)
    return float(found[-1]) / 10 if found and 0 <= float(found[-1]) <= 10 else None


def _ask(situation: Situation, system: str, words: str) -> Ask:
    assert situation.judge is not None, "the spec asks for a judge only where there is one"
    messages = (Message("system", system), Message("user", words))
    return Ask(situation.judge, Request(messages, situation.judge.sampling, prompt_version=VERSION))


def _request_text(situation: Situation) -> str:
    turns = "\n\n".join(f"[{message.role}]\n{message.content}" for message in situation.messages)
    gold = "".join(f"\n\n# A right answer\n{reference}" for reference in situation.example.reference[:1])
    return f"# Request\n{turns}{gold}"

"""What the teachers said of the likeliest tokens beside their answers, taken out of the ledger for the student."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from potstill.errors import ModelError
from potstill.generation.interview import Interview, Outcome
from potstill.models.said import said_row
from potstill.records import Example


def are_asked(interview: Interview) -> bool:
    """Whether a teacher is asked for them."""
    return any(seat.top_logprobs for seat in interview.teachers)


def said_of(outcome: Outcome | None) -> Iterator[dict[str, Any]]:
    """A line for each answer that came with them, whether it is learnt or not: other gates may want another."""
    for turn in outcome.turns if outcome is not None else ():
        for candidate in turn.candidates:
            if candidate.reply.completion.logprobs:
                yield said_row(turn.messages, candidate.text, candidate.reply.completion.logprobs)


def require_logprobs(interview: Interview, rows: Iterable[Example]) -> None:
    """Raise ModelError where teachers have answered some of these rows, and none said what is to be learnt."""
    outcomes = (interview.outcome(row) for row in rows)
    calls = [candidate.reply for outcome in outcomes if outcome is not None for candidate in outcome.candidates]
    answered = [reply for reply in calls if reply.completion.finish_reason != "error"]
    if answered and not any(reply.completion.logprobs for reply in answered):
        raise ModelError(
            f"targets.kind: logprobs needs log-probabilities beside the answers, but {answered[0].seat.title} gave none with any of "
            f"{len(answered):,} answers; set `targets.kind: auto` to learn from its text, or take an endpoint that gives them "
            "(vLLM, llama.cpp, OpenAI's models without reasoning)"
        )

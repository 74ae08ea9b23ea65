"""How likely an endpoint finds the answers that are learnt, whoever wrote them: one call an answer, kept in the ledger as any other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from potstill.errors import ModelError
from potstill.models.said import said_row
from potstill.models.talk import Ask, Seat
from potstill.records import Completion, Example, Message, Request

if TYPE_CHECKING:
    from potstill.generation.interview import Interview


def ask_score(seat: Seat, messages: tuple[Message, ...], answer: str) -> Ask:
    """The question to `seat` how likely it finds an answer to `messages`."""
    chat = (*messages, Message("assistant", answer))
    return Ask(seat, Request(chat, seat.sampling, prompt_logprobs=seat.top_logprobs))


def scores_wanted(interview: Interview, rows: Iterable[Example]) -> Iterator[Request]:
    """What the scorer is asked about rows as they are learnt: a call a trained turn."""
    assert interview.scorer is not None, "nobody is named who scores"
    for row in rows:
        for turn in row.trained_turns:
            yield ask_score(interview.scorer, row.messages[:turn], row.messages[turn].content).request


def scores_of(interview: Interview, row: Example) -> Iterator[dict[str, Any]]:
    """A line of `logprobs.jsonl` for each trained turn of a row that was scored."""
    for request, completion in _found(interview, [row]):
        if completion is not None and completion.logprobs:
            *before, answer = request.messages
            yield said_row(before, answer.content, completion.logprobs)


def lacks_scores(interview: Interview, row: Example) -> bool:
    """Whether the scorer was never asked about some of a row's answers."""
    return any(completion is None for _, completion in _found(interview, [row]))


def require_scores(interview: Interview, rows: Iterable[Example]) -> None:
    """Raise ModelError where the scorer was asked about some of these rows, and said nothing that can be learnt of any."""
    asked = [completion for _, completion in _found(interview, rows) if completion is not None]
    if not asked or any(completion.logprobs for completion in asked):
        return
    assert interview.scorer is not None, "somebody was asked"
    why = next((completion.error for completion in asked if completion.error), "its tokens do not write the answers' text")
    raise ModelError(
        f"generation.scorer: {interview.scorer.title} scored none of {len(asked):,} answers: {why}; take an endpoint that gives "
        "`prompt_logprobs` (vLLM), or remove `generation.scorer`"
    )


def _found(interview: Interview, rows: Iterable[Example]) -> Iterator[tuple[Request, Completion | None]]:
    from potstill.models.questions import request_key  # brings the event loop

    assert interview.scorer is not None, "nobody is named who scores"
    for request in scores_wanted(interview, rows):
        yield request, interview.ledger.get(request_key(interview.scorer.model, request), settled=True)

"""vLLM's `prompt_logprobs`: how likely a model finds a text that it did not write in that call. No network here.

What is sent beside a chat that ends with the text, as the assistant's turn, and what comes back: for each token of the prompt, as the
model's template writes it, an object of token ids, each with `logprob`, `rank` and `decoded_token`; null for the first. The token that
stands there is among them, also where it is not one of the likeliest: it comes first, and `prompt_token_ids` name it where the server
knows `return_token_ids`. (vLLM: `ChatCompletionRequest.prompt_logprobs`, `vllm/logprobs.py`, `vllm/v1/engine/logprobs.py`.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from potstill.records import Request, TokenLogprob

NO_SCORES = "the endpoint gave no `prompt_logprobs`, which vLLM gives"


def score_fields(request: Request) -> dict[str, Any]:
    """What a request to score its last message says beside the chat: the turn is whole, and no other is begun."""
    return {"prompt_logprobs": request.prompt_logprobs, "add_generation_prompt": False, "return_token_ids": True}


def read_scores(body: dict[str, Any], text: str) -> tuple[TokenLogprob, ...] | None:
    """The tokens that write `text` where it stands last in the prompt, and the one after it; None where the endpoint scored nothing.

    Empty where the tokens do not write the text (a template that changes it, characters of which a server shows halves).
    """
    found = body.get("prompt_logprobs")
    if not isinstance(found, list):
        return None
    ids = body.get("prompt_token_ids")
    try:
        tokens = list(_tokens(found, ids if isinstance(ids, list) and len(ids) == len(found) else None))
    except (AttributeError, LookupError, TypeError, ValueError):
        return None
    return tuple(_joined(_of_text(tokens, text.strip())))


def _tokens(found: Sequence[dict[str, Any] | None], ids: Sequence[int] | None) -> Iterator[TokenLogprob]:
    for place, known in enumerate(found):
        if known is None:
            continue  # the first of all, before which there is nothing
        own = str(ids[place]) if ids is not None and str(ids[place]) in known else next(iter(known), "")
        top = tuple((str(one["decoded_token"]), float(one["logprob"])) for one in known.values())
        yield TokenLogprob(str(known[own]["decoded_token"]), float(known[own]["logprob"]), top)


def _of_text(tokens: Sequence[TokenLogprob], text: str) -> Iterator[TokenLogprob]:
    """The tokens that the last occurrence of `text` lies in, and the next: what ends the turn."""
    begin = "".join(one.token for one in tokens).rfind(text) if text else -1
    if begin < 0:
        return
    place = 0
    for one in tokens:
        starts, place = place, place + len(one.token)
        if place > begin or starts == begin:
            yield one
        if one.token and starts >= begin + len(text):
            return


def _joined(tokens: Iterator[TokenLogprob]) -> Iterator[TokenLogprob]:
    """The tokens, those that show nothing joined to the next: some servers show a character at the last of its pieces alone.

    Of a joined one no other is known at its place, and its probability is the product of its pieces'.
    """
    before = 0.0
    for one in tokens:
        if not one.token:
            before += one.logprob
            continue
        yield TokenLogprob(one.token, before + one.logprob) if before else one
        before = 0.0

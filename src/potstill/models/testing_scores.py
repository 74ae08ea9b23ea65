"""What the test server says of text that it is given, in the shape of vLLM's `prompt_logprobs`."""

from __future__ import annotations

import re
import zlib
from typing import Any

_PIECES = re.compile(r"<\|\w+\|>|\n| *[^\s<]+|[ <]|\s")


def scored_prompt(payload: dict[str, Any]) -> dict[str, Any]:
    """The fields that a chat with `prompt_logprobs` has beside its answer; tokens are words with the space before them, in ChatML.

    The token that stands there has log-probability −1.2 and rank 2, a made-up one −0.7 and rank 1, others less.
    """
    turns = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in payload["messages"])
    chat = turns + ("<|im_start|>assistant\n" if payload.get("add_generation_prompt", True) else "")
    words = _PIECES.findall(chat)
    found: list[dict[str, Any] | None] = [_entry(word, int(payload["prompt_logprobs"])) for word in words]
    ids = {"prompt_token_ids": [_id(word) for word in words]} if payload.get("return_token_ids") else {}
    return {"prompt_logprobs": [None, *found[1:]], **ids}


def _entry(word: str, top: int) -> dict[str, Any]:
    own = {str(_id(word)): {"logprob": -1.2, "rank": 2, "decoded_token": word}}
    others = [(f" other{rank}", -0.7 if rank == 0 else -1.2 - rank, 1 if rank == 0 else rank + 2) for rank in range(top)]
    return own | {str(_id(other)): {"logprob": logprob, "rank": rank, "decoded_token": other} for other, logprob, rank in others}


def _id(word: str) -> int:
    return zlib.crc32(word.encode())

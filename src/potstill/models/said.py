"""What endpoints said of the likeliest tokens beside their answers: a file of one run, an answer a line, found by what was asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from potstill.errors import StoreError
from potstill.records import Message, TokenLogprob
from potstill.store.atomic import fingerprint

SAID = "logprobs.jsonl"
"""Its name in the folder of stage 1."""


def said_row(messages: Sequence[Message], text: str, tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """An answer to `messages`, as it may be learnt, and its tokens."""
    return {"chat": _key(messages), "text": text, "tokens": [[one.token, one.logprob, one.top] for one in tokens]}


class SaidFile:
    """The answers of a file, read when they are looked for. Raises StoreError where it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, list[int]] = {}
        try:
            self._file: IO[bytes] = path.open("rb")
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror}); `potstill generate` writes it") from None
        with path.open("rb") as lines:
            place = 0
            for line in lines:
                self._places.setdefault(json.loads(line)["chat"], []).append(place)
                place += len(line)

    def __len__(self) -> int:
        return sum(map(len, self._places.values()))

    def find(self, messages: Sequence[Message], answer: str) -> tuple[TokenLogprob, ...]:
        """The tokens of the answer to `messages` that `answer` is, or ends with; none where there is none."""
        for row in self._rows(messages):
            if answer.endswith(row["text"].strip()):
                return tuple(TokenLogprob(token, logprob, tuple((t, p) for t, p in top)) for token, logprob, top in row["tokens"])
        return ()

    def _rows(self, messages: Sequence[Message]) -> Iterator[dict[str, Any]]:
        for place in self._places.get(_key(messages), ()):
            self._file.seek(place)
            yield json.loads(self._file.readline())


def _key(messages: Sequence[Message]) -> str:
    return fingerprint([[message.role, message.content] for message in messages])

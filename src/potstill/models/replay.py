"""A model that gives answers which were recorded before: nobody is asked, no key is needed, and nothing is paid."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill.errors import ModelError
from potstill.models.base import Capabilities
from potstill.models.openai_wire import read_answers
from potstill.records import Completion, Cost, Message, Request, Sampling, Usage
from potstill.store.atomic import fingerprint, hash_file, store_error
from potstill.store.look import LedgerView

_SQLITE = b"SQLite format 3\0"
_SHAPES = (
    "a ledger, or JSONL of chat rows that end with the assistant's turn, of prompt/completion rows, of rows with the request's messages "
    "(`messages`, or in `input`, `request` or `body`) and the answer (`choices`, or in `response` or `output`)"
)
_INTO = ("input", "request", "body", "params")
_OUT_OF = ("response", "output", "body", "result")


class ReplayModel:
    """Answers a request by its messages: the first recorded answer to them for sample 0, the next for sample 1, and so on.

    A request that was not recorded comes back as an error. The recording is indexed on disk, so memory does not grow with it. Raises
    ModelError where it cannot be read.
    """

    capabilities = Capabilities()
    batch_size = 1
    concurrency = 1

    def __init__(self, path: Path, *, name: str = "replay") -> None:
        self.name = name
        try:
            self.identity = f"replay:{hash_file(path)}"
            self._ledger = path.open("rb").read(len(_SQLITE)) == _SQLITE
        except OSError as error:
            raise store_error(path, error) from None
        self._path = path
        self._index = sqlite3.connect("", isolation_level=None)  # a temporary file, which SQLite removes
        self._index.execute(
            "CREATE TABLE answer (question TEXT, sample INTEGER, completion TEXT, PRIMARY KEY (question, sample)) WITHOUT ROWID"
        )
        self._fill()

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """What was recorded for each request, in order."""
        return [self._find(request) for request in requests]

    def dollars(self, completion: Completion) -> float | None:  # noqa: ARG002 (the protocol's signature)
        """Nothing: it was paid before."""
        return 0.0

    def most(self, request: Request) -> Cost:  # noqa: ARG002 (the protocol's signature)
        """Nothing."""
        return Cost(1)

    async def close(self) -> None:
        """The index stays for the next question; it ends with the object."""

    def _find(self, request: Request) -> Completion:
        row = self._index.execute(
            "SELECT completion FROM answer WHERE question = ? AND sample = ?", (_question(request.messages), request.sample)
        ).fetchone()
        if row is None:
            said = f" (sample {request.sample + 1})" if request.sample else ""
            return Completion("", "error", model=self.name, error=f"is not among the recorded answers of {self._path.name}{said}")
        text, finish_reason, read, written, model, reasoning = json.loads(row[0])
        return Completion(text, finish_reason, Usage(read, written), model=model or self.name, reasoning=reasoning)

    def _fill(self) -> None:
        samples: dict[str, int] = {}
        self._index.execute("BEGIN")
        for messages, completion in self._recorded():
            question = _question(messages)
            sample = samples.get(question, 0)
            samples[question] = sample + 1
            usage = completion.usage
            kept = (
                completion.text,
                completion.finish_reason,
                usage.input_tokens,
                usage.output_tokens,
                completion.model,
                completion.reasoning,
            )
            self._index.execute("INSERT INTO answer VALUES (?, ?, ?)", (question, sample, json.dumps(kept)))
        self._index.execute("COMMIT")
        if not samples:
            raise ModelError(f"{self._path}: holds no recorded answer; it must be {_SHAPES}")

    def _recorded(self) -> Iterator[tuple[Sequence[Message], Completion]]:
        if self._ledger:
            with LedgerView(self._path) as ledger:
                yield from ((request.messages, completion) for _, request, completion in ledger.answers())
            return
        with self._path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield self._read_line(number, line)

    def _read_line(self, number: int, line: str) -> tuple[Sequence[Message], Completion]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise ModelError(f"{self._path}:{number}: is not JSON") from None
        found = _read_row(row) if isinstance(row, Mapping) else None
        if found is None:
            raise ModelError(f"{self._path}:{number}: holds no question with its answer; allowed is {_SHAPES}")
        return found


def _question(messages: Iterable[Message]) -> str:
    return fingerprint([(message.role, message.content) for message in messages])


def _read_row(row: Mapping[str, Any]) -> tuple[list[Message], Completion] | None:
    if isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str):
        system = [Message("system", row["system"])] if isinstance(row.get("system"), str) else []
        return [*system, Message("user", row["prompt"])], Completion(row["completion"].strip(), "stop")
    messages = _messages(row)
    if not messages:
        return None
    answer = _answer(row, messages)
    if answer is not None:
        return messages, answer
    *prompt, last = messages
    return (prompt, Completion(last.content.strip(), "stop")) if prompt and last.role == "assistant" else None


def _messages(row: Mapping[str, Any]) -> list[Message]:
    """The request's turns, wherever in the row they stand."""
    found = row.get("messages")
    if isinstance(found, list):
        turns = [turn for turn in found if isinstance(turn, Mapping) and isinstance(turn.get("content"), str) and "role" in turn]
        return [Message(turn["role"], turn["content"]) for turn in turns] if len(turns) == len(found) else []
    for name in _INTO:
        inner = row.get(name)
        if isinstance(inner, list):
            inner = {"messages": inner}
        if isinstance(inner, Mapping) and (messages := _messages(inner)):
            return messages
    return []


def _answer(row: Mapping[str, Any], messages: Sequence[Message]) -> Completion | None:
    """The answer as the chat-completions wire has it, wherever in the row it stands; else a text or a turn in `output`."""
    if isinstance(row.get("choices"), list):
        return read_answers(dict(row), Request(tuple(messages), Sampling(1 << 30)), str(row.get("model") or ""))[0]
    for name in _OUT_OF:
        inner = row.get(name)
        if isinstance(inner, str) and name != "body":
            return Completion(inner.strip(), "stop")
        if isinstance(inner, list) and inner and isinstance(inner[-1], Mapping) and isinstance(inner[-1].get("content"), str):
            return Completion(inner[-1]["content"].strip(), "stop")
        if isinstance(inner, Mapping) and (found := _answer(inner, messages)) is not None:
            return found
    return None

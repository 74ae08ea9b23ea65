"""From conversations to token rows: what the model reads, which of it is trained, and what is left out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from potstill.errors import TrainingError
from potstill.models.chat import prompt_ids, training_sequences
from potstill.records import Example, Message
from potstill.training.batches import TokenRows

Positions = Literal["answer", "all"]
TooLong = Literal["drop", "cut_left", "refuse"]
_OTHER_WORDS = "\N{REPLACEMENT CHARACTER}"
"""What no prompt begins with: with it in the first user turn's place, a template writes what does not hang on that turn's words."""


@dataclass(frozen=True)
class Limit:
    """Most `tokens` of a row, and what says so: a key of the spec, or a model's context."""

    tokens: int
    why: str = "`training.max_length`"

    def __str__(self) -> str:
        return f"{self.tokens} tokens ({self.why})"

    @property
    def advice(self) -> str:
        """What lifts it."""
        return f"raise {self.why}" if self.why.startswith("`") else "take a model that reads more"


@dataclass(frozen=True)
class EncodedRows:
    """Token rows, and how many gave none (longer than the limit, or without a trained token), or lost a part of their prompt (`cut`).

    `prompts` is how many tokens of each row stand before its last trained turn: what inference sends there.
    """

    rows: TokenRows
    prompts: NDArray[np.int64]
    too_long: int = 0
    without_answer: int = 0
    cut: int = 0


def encode_rows(
    tokenizer: Any, examples: Iterable[Example], *, max_length: int | Limit, positions: Positions = "answer", too_long: TooLong = "drop"
) -> EncodedRows:
    """Token rows of conversations whose `trained_turns` are answers.

    With `positions` "all" every token but a row's first is trained. Rows of more than `max_length` tokens are left out, or cut by
    `cut_left` and left out where that is not enough, and counted. Raises TrainingError where nothing is left, or, with "refuse", where one
    is too long.
    """
    ids_list, trained_list, origins, prompts = [], [], [], []
    over = without_answer = longest = cut = 0
    limit = Limit(max_length) if isinstance(max_length, int) else max_length
    for place, example in enumerate(examples):
        sequences = training_sequences(tokenizer, example.messages, example.trained_turns) if example.trained_turns else []
        # A template may write nothing of an answer: what no place predicts, no place can learn.
        sequences = [(ids, trained) for ids, trained in sequences if any(trained[1:])]
        without_answer += not sequences
        for ids, trained in sequences:
            longest = max(longest, len(ids))
            if len(ids) > limit.tokens:
                shorter = cut_left(tokenizer, example.messages, ids, trained, limit.tokens) if too_long == "cut_left" else None
                if shorter is None:
                    over += 1
                    continue
                cut, (ids, trained) = cut + 1, shorter
            origins.append(place)
            prompts.append(len(ids) - trained[::-1].index(False))
            ids_list.append(np.array(ids, dtype=np.int32))
            trained_list.append(np.ones(len(ids), dtype=np.bool_) if positions == "all" else np.array(trained, dtype=np.bool_))
    if over and too_long == "refuse":
        raise TrainingError(
            f"{over} of {over + len(ids_list)} rows are longer than {limit} (the longest has {longest}), which `too_long: refuse` forbids; "
            f"{limit.advice}, shorten the prompts, or set `too_long` to `drop` or `cut_left`"
        )
    if not ids_list:
        raise TrainingError(_nothing_left(over, without_answer, longest, limit))
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids in ids_list])]).astype(np.int64)
    rows = TokenRows(np.concatenate(ids_list), np.concatenate(trained_list), starts, np.array(origins, dtype=np.int64))
    return EncodedRows(rows, np.array(prompts, dtype=np.int64), over, without_answer, cut)


def cut_left(
    tokenizer: Any, messages: Sequence[Message], ids: list[int], trained: list[bool], max_length: int
) -> tuple[list[int], list[bool]] | None:
    """A row of `max_length` tokens: its beginning as far as no user turn's words go, and its end.

    Kept at the beginning is what the chat template writes before the words of the first user turn: the token that begins a text, the system
    turn, the mark of the user's turn. At the end, the mark that opens the last answer, and that answer. Of what stands between, the oldest
    is cut, be it inside a turn. None where what is kept is too long already.
    """
    first = next((place for place, message in enumerate(messages) if message.role == "user"), 0)
    other = prompt_ids(tokenizer, (*messages[:first], Message("user", _OTHER_WORDS)))
    answer = len(trained) - trained[::-1].index(False)
    head, opening = _in_common(ids, other), _in_common(ids[answer - 1 :: -1], other[::-1])
    if head + opening + len(ids) - answer > max_length:
        return None
    end = len(ids) - (max_length - head)
    return ids[:head] + ids[end:], trained[:head] + trained[end:]


def _in_common(some: Sequence[int], others: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(some, others, strict=False)))


def vocabulary_use(tokenizer: Any, prompts: Iterable[Sequence[Message]], accepted: Iterable[Example]) -> Iterator[list[int]]:
    """The tokens of all that a student must read and write without falling back to bytes.

    `prompts` are what is asked, those that end with an assistant turn with a gold answer; `accepted` the teacher's answers.
    """
    for messages in prompts:
        if messages[-1].role == "assistant":
            yield from (ids for ids, _ in training_sequences(tokenizer, messages, (len(messages) - 1,)))
        else:
            yield prompt_ids(tokenizer, messages)
    for example in accepted:
        if example.trained_turns:
            yield from (ids for ids, _ in training_sequences(tokenizer, example.messages, example.trained_turns))


def _nothing_left(too_long: int, without_answer: int, longest: int, limit: Limit) -> str:
    if too_long:
        return (
            f"nothing to train on: {too_long} of {too_long + without_answer} rows are longer than {limit} (the longest has {longest}); "
            f"{limit.advice}, or shorten the prompts"
        )
    if without_answer:
        return f"nothing to train on: none of {without_answer} rows holds an answer; see generation/rejected.jsonl for the reasons"
    return "nothing to train on: there are no accepted rows; see generation/rejected.jsonl for the reasons"

"""From conversations to token rows: what the model reads, which of it is trained, and what is left out."""

from __future__ import annotations

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


@dataclass(frozen=True)
class EncodedRows:
    """Token rows, and how many conversations gave none: longer than the limit, or without a trained token.

    `prompts` is how many tokens of each row stand before its last trained turn: what inference sends there.
    """

    rows: TokenRows
    prompts: NDArray[np.int64]
    too_long: int = 0
    without_answer: int = 0


def encode_rows(tokenizer: Any, examples: Iterable[Example], *, max_length: int, positions: Positions = "answer") -> EncodedRows:
    """Token rows of conversations whose `trained_turns` are answers.

    With `positions` "all" every token but a row's first is trained. Rows of more than `max_length` tokens are left out and
    counted. Raises TrainingError where nothing is left.
    """
    ids_list, trained_list, origins, prompts = [], [], [], []
    too_long = without_answer = longest = 0
    for place, example in enumerate(examples):
        sequences = training_sequences(tokenizer, example.messages, example.trained_turns) if example.trained_turns else []
        without_answer += not sequences
        for ids, trained in sequences:
            longest = max(longest, len(ids))
            if len(ids) > max_length:
                too_long += 1
                continue
            origins.append(place)
            prompts.append(len(ids) - trained[::-1].index(False))
            ids_list.append(np.array(ids, dtype=np.int32))
            trained_list.append(np.ones(len(ids), dtype=np.bool_) if positions == "all" else np.array(trained, dtype=np.bool_))
    if not ids_list:
        raise TrainingError(_nothing_left(too_long, without_answer, longest, max_length))
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids in ids_list])]).astype(np.int64)
    rows = TokenRows(np.concatenate(ids_list), np.concatenate(trained_list), starts, np.array(origins, dtype=np.int64))
    return EncodedRows(rows, np.array(prompts, dtype=np.int64), too_long, without_answer)


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


def _nothing_left(too_long: int, without_answer: int, longest: int, max_length: int) -> str:
    if too_long:
        return (
            f"nothing to train on: {too_long} of {too_long + without_answer} rows are longer than `training.max_length` "
            f"({max_length} tokens; the longest has {longest}); raise it, or shorten the prompts"
        )
    if without_answer:
        return f"nothing to train on: none of {without_answer} rows holds an answer; see generation/rejected.jsonl for the reasons"
    return "nothing to train on: there are no accepted rows; see generation/rejected.jsonl for the reasons"

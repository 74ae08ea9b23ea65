"""Where the answers of rows stand among their tokens, and a store of targets that begins as the text itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill.records import Example
from potstill.training.batches import TokenRows, next_token_positions
from potstill.training.targets.stored import SparseArrays, SparseRows

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Answer:
    """One trained turn of a row: which row and example, which turn, its tokens `ids_M` with the one that ends it, and `place`: which of
    the row's trained positions predicts the first of them."""

    row: int
    example: int
    turn: int
    ids_M: Ids
    place: int


def answers_of(rows: TokenRows, examples: Sequence[Example], spelt: Sequence[bytes | None]) -> Iterator[Answer]:
    """The answers in rows whose trained tokens are answers alone, found by their bytes (`spelt` by id).

    Left out are those whose tokens do not write the turn's text (a tokenizer that changes case, say).
    """
    seen: dict[int, list[int]] = {}
    for number in range(len(rows)):
        row, origin = rows[number], int(rows.examples[number])
        example = examples[origin]
        open_turns = seen.setdefault(origin, sorted(example.trained_turns))
        edges = np.flatnonzero(np.diff(np.concatenate([[False], row.trained, [False]]).astype(np.int8)))
        place = -int(row.trained[0])  # a row's first token has no place that predicts it
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            ids = row.ids[begin:end].astype(np.int64)
            turn = _turn(b"".join(spelt[token] or b"" for token in ids[:-1]), example, open_turns)
            if turn is not None and begin > 0:
                # In the order of the turns; those of a sequence that was left out for its length are passed over.
                del open_turns[: open_turns.index(turn) + 1]
                yield Answer(number, origin, turn, ids, place)
            place += end - begin


def content_of(example: Example, turn: int) -> bytes:
    """The bytes of a turn's text."""
    return example.messages[turn].content.strip().encode("utf-8", "replace")


def _turn(written: bytes, example: Example, turns: Sequence[int]) -> int | None:
    return next((turn for turn in turns if written.rstrip().endswith(content_of(example, turn))), None)


class Store:
    """Sparse targets of rows, at most `k` tokens a position: the text's own token wherever nothing else is `put`."""

    def __init__(self, rows: TokenRows, k: int) -> None:
        own = [next_token_positions(rows[number])[1] for number in range(len(rows))]
        self._starts = np.concatenate([[0], np.cumsum([len(ids) for ids in own])]).astype(np.int64)
        count = int(self._starts[-1])
        self.k = k
        self._ids = np.full((count, k), -1, dtype=np.int32)
        self._logp = np.zeros((count, k), dtype=np.float32)
        self._tail = np.full(count, -np.inf, dtype=np.float32)
        self._ids[:, 0] = np.concatenate(own)
        self.filled = np.zeros(count, dtype=np.bool_)
        """Which positions were put."""

    def put(self, row: int, place: int, ids: Ids, probabilities: NDArray[np.floating], rest: float = 0.0) -> None:
        """The distribution at the `place`-th trained position of a row; `rest` is the probability of all other tokens."""
        at, count = self._starts[row] + place, len(ids)
        self._ids[at, :count], self._ids[at, count:] = ids, -1
        with np.errstate(divide="ignore"):
            self._logp[at, :count], self._tail[at] = np.log(probabilities), np.log(rest)
        self.filled[at] = True

    def rows(self) -> SparseRows:
        """The store as `StoredTargets` reads it."""
        return SparseRows(self._starts, SparseArrays(self._ids, self._logp, self._tail, np.ones(len(self._ids), dtype=np.bool_)))

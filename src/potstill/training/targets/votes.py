"""How the votes for several answers fell, or a judge scored the labels, as targets along the answer that was chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.errors import CapabilityError
from potstill.models.chat import training_sequences
from potstill.records import Example, Message
from potstill.training.batches import TokenRows
from potstill.training.targets.answers import Answer, Store, answers_of
from potstill.training.targets.stored import SparseRows

Ids = NDArray[np.int64]


def vote_targets(
    tokenizer: Any, rows: TokenRows, examples: Sequence[Example], spelt: Sequence[bytes | None], k: int
) -> tuple[SparseRows, int]:
    """Targets of the last answer of each row that was voted on, and how many there are.

    At each of its positions the next token's probability is the share of the votes for answers that begin with the same tokens and go on
    with it, among all that begin so; where all agree it is the text's own. Raises CapabilityError where no row was voted on.
    """
    store, voted = Store(rows, k), 0
    for answer in answers_of(rows, examples, spelt):
        example = examples[answer.example]
        if answer.turn != example.trained_turns[-1] or len(example.distribution) < 2:
            continue
        voted += 1
        others = list(_others(tokenizer, example, answer))
        winner = example.distribution[0][1]
        for place, own in enumerate(answer.ids_M):
            others = [(ids, share) for ids, share in others if len(ids) > place and (ids[:place] == answer.ids_M[:place]).all()]
            if not others:
                break
            shares = {int(own): winner}
            for ids, share in others:
                shares[int(ids[place])] = shares.get(int(ids[place]), 0.0) + share
            _put(store, answer, place, shares)
    if not any(example.distribution for example in examples):
        raise CapabilityError(
            "targets.kind: votes: no row was voted on; set `generation.samples` above 1 and a `temperature`, and `generation.choose` to "
            "`vote`; or to `label_scores`, with a judge"
        )
    return store.rows(), voted


def _put(store: Store, answer: Answer, place: int, shares: dict[int, float]) -> None:
    whole = sum(shares.values())
    likeliest = sorted(shares, key=lambda token: -shares[token])[: store.k]
    p = np.array([shares[token] / whole for token in likeliest])
    store.put(answer.row, answer.place + place, np.array(likeliest), p, 0.0 if len(likeliest) == len(shares) else 1.0 - float(p.sum()))


def _others(tokenizer: Any, example: Example, answer: Answer) -> Iterator[tuple[Ids, float]]:
    """The tokens of the answers that lost, each written as the winner is: after the same reasons, where there are any."""
    text, chosen = example.messages[answer.turn].content.strip(), example.distribution[0][0]
    before = text[: len(text) - len(chosen)] if text.endswith(chosen) else ""
    for label, share in example.distribution[1:]:
        messages = (*example.messages[: answer.turn], Message("assistant", before + label))
        ids, trained = training_sequences(tokenizer, messages, (answer.turn,))[-1]
        yield np.array(ids, dtype=np.int64)[np.array(trained)], share

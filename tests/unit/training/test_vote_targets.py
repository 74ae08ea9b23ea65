"""Votes for several answers become the distribution of their tokens, against enumeration of the answers."""

import math

import numpy as np
import pytest
from families import tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import CapabilityError
from potstill.models.chat import training_sequences
from potstill.models.tokens import token_bytes
from potstill.records import Example, Message
from potstill.training.rows import encode_rows
from potstill.training.targets.votes import vote_targets

STUDENT = tokenizer()
SPELT = token_bytes(STUDENT.backend_tokenizer)
ASKED = Message("user", "Which one?")


def example(text, *shares):
    return Example("row", (ASKED, Message("assistant", text)), trained_turns=(1,), distribution=shares)


def ids_of(text):
    ids, trained = training_sequences(STUDENT, (ASKED, Message("assistant", text)), (1,))[-1]
    return [token for token, learnt in zip(ids, trained, strict=True) if learnt]


def targets_of(one, k=8):
    rows = encode_rows(STUDENT, [one], max_length=100).rows
    store, voted = vote_targets(STUDENT, rows, [one], SPELT, k)
    found = store.take(np.arange(store.starts[-1]))
    named = [{int(t): math.exp(p) for t, p in zip(*pair, strict=True) if t >= 0} for pair in zip(found.ids_PK, found.logp_PK, strict=True)]
    return named, np.exp(found.tail_logp_P), voted


labels = st.lists(st.text("ab xq", min_size=1, max_size=5).map(str.strip).filter(bool), min_size=2, max_size=5, unique=True)


@settings(max_examples=60, deadline=None)
@given(names=labels, counts=st.lists(st.integers(1, 9), min_size=5, max_size=5))
def test_the_next_tokens_mass_is_that_of_the_answers_that_go_on_so(names, counts):
    shares = [(name, count / sum(counts)) for name, count in zip(names, counts, strict=False)]
    named, tails, _ = targets_of(example(names[0], *shares))
    written, own = {name: ids_of(name) for name in names}, ids_of(names[0])
    assert len(named) == len(own)
    for place, found in enumerate(named):
        going_on = [(ids, share) for (name, share) in shares if (ids := written[name])[:place] == own[:place] and len(ids) > place]
        whole = sum(share for _, share in going_on)
        expected = {
            token: sum(share for ids, share in going_on if ids[place] == token) / whole for token in {ids[place] for ids, _ in going_on}
        }
        assert found == pytest.approx(expected, abs=1e-6)
    assert not tails.any()


def test_the_probability_of_an_answer_is_its_share_of_the_votes():
    shares = (("x quick", 0.5), ("x", 0.25), ("quick", 0.05))
    named, _, voted = targets_of(example("x quick", *shares))
    assert voted == 1
    assert math.prod(found[token] for found, token in zip(named, ids_of("x quick"), strict=True)) == pytest.approx(0.5 / 0.8)


def test_answers_that_lost_stand_after_the_winners_reasons():
    named, _, _ = targets_of(example("It jumps.\n\nAnswer: x", ("x", 0.75), ("y", 0.25)))
    assert [sorted(found.values()) for found in named[-2:]] == [pytest.approx([0.25, 0.75]), pytest.approx([1.0])]
    assert all(list(found.values()) == [1.0] for found in named[:-2])


def test_what_does_not_fit_into_k_is_left_for_all_other_tokens():
    named, tails, _ = targets_of(example("x", ("x", 0.5), ("y", 0.3), ("q", 0.2)), k=2)
    assert sorted(named[0].values()) == pytest.approx([0.3, 0.5])
    assert tails[0] == pytest.approx(0.2)


def test_rows_that_nobody_voted_on_are_learnt_as_text_and_all_of_them_are_refused():
    with pytest.raises(CapabilityError, match=r"no row was voted on; set `generation\.samples`"):
        targets_of(example("x"))
    named, _, voted = targets_of(example("x", ("x", 1.0)))
    assert voted == 0
    assert all(list(found.values()) == [1.0] for found in named)

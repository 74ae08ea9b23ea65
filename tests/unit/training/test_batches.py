"""Batches: the shift by one, padding that is never seen, and an order that depends on seed and epoch alone."""

import numpy as np
import pytest
import torch
from families import module
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.training.batches import LengthBatches, TokenRow, collate, next_token_positions
from potstill.training.head import trained_hidden

lengths = st.lists(st.integers(2, 60), min_size=1, max_size=90).map(lambda found: np.array(found, dtype=np.int64))


def row(ids, trained):
    return TokenRow(np.array(ids, dtype=np.int32), np.array(trained, dtype=bool))


def test_the_position_before_a_trained_token_predicts_it():
    positions, labels = next_token_positions(row([10, 11, 12, 13], [False, False, True, True]))
    assert positions.tolist() == [1, 2]
    assert labels.tolist() == [12, 13]


def test_a_rows_first_token_is_predicted_by_nothing_and_never_trained():
    positions, labels = next_token_positions(row([10, 11], [True, True]))
    assert (positions.tolist(), labels.tolist()) == ([0], [11])


def test_positions_of_all_rows_point_into_the_flat_batch():
    batch = collate([row([1, 2, 3], [False, True, True]), row([4, 5, 6, 7, 8], [False, False, False, True, True])], pad_id=0)
    flat = batch.input_ids_BT.flatten()
    assert batch.input_ids_BT.tolist() == [[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]]
    assert flat[batch.positions_N].tolist() == [1, 2, 6, 7]
    assert flat[batch.positions_N + 1].tolist() == batch.labels_N.tolist() == [2, 3, 7, 8]
    assert batch.tokens == 8


@pytest.mark.parametrize("family", ["smollm", "gemma3", "qwen2"])
def test_what_the_padding_is_filled_with_changes_nothing(family):
    model = module(family)
    rows = [row(range(10, 16), [False] * 3 + [True] * 3), row(range(20, 40), [False] * 10 + [True] * 10)]
    with torch.no_grad():
        found = [trained_hidden(model, collate(rows, pad_id)) for pad_id in (0, 77)]
        alone = torch.cat([trained_hidden(model, collate([one], 0)) for one in rows])
    assert torch.equal(found[0], found[1])
    torch.testing.assert_close(found[0], alone, rtol=1e-4, atol=1e-5)


@settings(deadline=None)
@given(lengths, st.integers(1, 9), st.integers(1, 9), st.integers(0, 3))
def test_every_row_comes_once_an_epoch_in_steps_of_the_batch_size(found, batch_size, micro, epoch):
    sampler = LengthBatches(found, batch_size, micro, seed=1)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert sorted(place for batch in batches for place in batch) == list(range(len(found)))
    assert len(batches) == len(sampler)
    per_step = sampler.micro_batches_per_step
    steps = [sum(map(len, batches[start : start + per_step])) for start in range(0, len(batches), per_step)]
    assert all(size == batch_size for size in steps[:-1])
    assert len(steps) == -(-len(found) // batch_size)


@settings(deadline=None)
@given(lengths, st.integers(0, 5))
def test_the_order_depends_on_seed_and_epoch_alone(found, epoch):
    first, second = LengthBatches(found, 4, 4, seed=7), LengthBatches(found, 4, 4, seed=7)
    for past in range(epoch):
        first.set_epoch(past)
        list(first)
    first.set_epoch(epoch)
    second.set_epoch(epoch)
    assert list(first) == list(second)


def test_epochs_and_seeds_differ_in_their_order():
    found = np.random.default_rng(0).integers(5, 100, size=200)
    orders = set()
    for seed in (0, 1):
        for epoch in (0, 1):
            sampler = LengthBatches(found, 8, 8, seed=seed)
            sampler.set_epoch(epoch)
            orders.add(str(list(sampler)))
    assert len(orders) == 4


def test_rows_of_like_length_stand_together_so_that_little_is_padding():
    found = np.random.default_rng(0).integers(5, 200, size=1000)
    padded = sum(len(batch) * found[batch].max() for batch in LengthBatches(found, 8, 8, seed=0))
    assert padded < 1.1 * found.sum()


def test_whole_steps_are_not_ordered_by_length():
    found = np.arange(1, 401)
    firsts = [found[batch[0]] for batch in LengthBatches(found, 8, 8, seed=0)]
    assert firsts != sorted(firsts)
    assert firsts != sorted(firsts, reverse=True)


@settings(deadline=None)
@given(st.lists(st.integers(2, 40), min_size=1, max_size=12), st.integers(1, 200), st.booleans())
def test_parts_of_a_batch_are_its_rows_in_order_each_with_tokens_enough_and_no_wider_than_its_longest(found, least, weighted):
    generator = np.random.default_rng(len(found))
    rows = [
        TokenRow(generator.integers(1, 99, length).astype(np.int32), generator.random(length) < 0.5, place, 1.0 + weighted * place)
        for place, length in enumerate(found)
    ]
    whole = collate(rows, pad_id=0)
    parts = whole.split(least)
    edges = np.cumsum([0, *map(len, parts)])
    assert edges[-1] == len(rows)
    for part, start, end in zip(parts, edges, edges[1:], strict=False):
        expected = collate(rows[start:end], pad_id=0)
        assert torch.equal(part.input_ids_BT, expected.input_ids_BT)
        assert torch.equal(part.positions_N, expected.positions_N)
        assert torch.equal(part.labels_N, expected.labels_N)
        assert part.tokens == expected.tokens
        assert (part.rows_B == expected.rows_B).all()
        assert (part.counts_B == expected.counts_B).all()
        assert (part.lengths_B == expected.lengths_B).all()
        assert (part.weights_N is None) == (whole.weights_N is None)
        if part.weights_N is not None:
            assert torch.equal(part.weights_N, torch.from_numpy(np.repeat([row.weight for row in rows[start:end]], part.counts_B)).float())
        assert len(parts) == 1 or part.input_ids_BT.numel() >= least


def test_a_batch_is_split_as_often_as_its_parts_stay_large_enough():
    batch = collate([row(range(16), [False] * 8 + [True] * 8) for _ in range(8)], pad_id=0)
    assert [len(part) for part in batch.split(64)] == [4, 4]
    assert [len(part) for part in batch.split(65)] == [8]
    assert [len(part) for part in batch.split(40)] == [3, 5]
    assert batch.split(65)[0] is batch

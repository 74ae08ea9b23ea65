"""How many rows fit is counted, not guessed."""

import numpy as np
import pytest
import torch
from families import module

from potstill.spec.sections import LoraSpec
from potstill.training.adapters import add_adapters
from potstill.training.batches import TokenRows, collate, most_rows_of_a_part
from potstill.training.kernel import LOGIT_BYTES
from potstill.training.learner import Learner, pad_id
from potstill.training.memory import Room, free_bytes, make_room, room
from potstill.training.objectives import OBJECTIVES, Ingredients

MOST = 2**40


def rows(*lengths) -> TokenRows:
    starts = np.concatenate([[0], np.cumsum(lengths)])
    trained = np.concatenate([np.arange(length) > 1 for length in lengths])
    return TokenRows(np.ones(starts[-1], np.int32), trained, starts, np.arange(len(lengths)))


def learner(model=None) -> Learner:
    return Learner(model or module("smollm").train(), OBJECTIVES["sft"](Ingredients()))


def test_the_longest_row_decides_and_takes_memory_by_its_length():
    model = learner()
    short, longer = (room(model, rows(4, length), pad_id(model), MOST).row_bytes for length in (16, 32))
    assert 1.9 * short < longer < 2.3 * short
    assert room(model, rows(32, 4), pad_id(model), MOST).row_bytes == longer


def test_what_is_kept_is_at_least_the_hidden_states_of_every_layer():
    model = learner()
    config = model.student.config
    states = 32 * config.hidden_size * config.num_hidden_layers * 4
    assert room(model, rows(32), pad_id(model), MOST).row_bytes > 2 * states


def test_twice_the_memory_beyond_the_weights_has_room_for_twice_the_rows():
    model = learner()
    weights = 12 * sum(weight.numel() for weight in model.parameters()) + 4 * LOGIT_BYTES
    one = room(model, rows(32), pad_id(model), MOST).row_bytes
    assert room(model, rows(32), pad_id(model), weights + 8 * one).rows == 8
    assert room(model, rows(32), pad_id(model), weights + 16 * one).rows == 16
    assert room(model, rows(32), pad_id(model), weights - 1).rows == 0
    assert room(model, rows(32), pad_id(model), None).rows is None


def test_adapters_leave_more_room_than_whole_weights():
    whole, adapted = learner(), learner(add_adapters(module("smollm").train(), LoraSpec(rank=1)))
    free = 12 * sum(weight.numel() for weight in whole.parameters()) + 4 * LOGIT_BYTES
    assert room(whole, rows(32), pad_id(whole), free).rows == 0
    assert room(adapted, rows(32), pad_id(adapted), free).rows > 0


def test_where_not_one_row_fits_layers_keep_what_goes_into_them_alone_and_gradients_stay_the_same():
    plain, short_of_memory = learner(), learner()
    batch = collate([rows(32)[0]], 0)
    weights = 12 * sum(weight.numel() for weight in plain.parameters()) + 4 * LOGIT_BYTES
    whole = room(plain, rows(32), pad_id(plain), MOST).row_bytes
    assert make_room(plain, rows(32), pad_id(plain), weights + whole) == (Room(1, whole), False)
    found, twice = make_room(short_of_memory, rows(32), pad_id(short_of_memory), weights + whole // 2)
    assert twice
    assert found.rows > 0
    assert found.row_bytes < whole / 2
    for model in (plain, short_of_memory):
        model(batch).backward()
    for ours, theirs in zip(short_of_memory.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad.to_dense(), theirs.grad.to_dense())


def test_counting_changes_neither_gradients_nor_random_numbers():
    model = learner()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    room(model, rows(8), pad_id(model), MOST)
    assert torch.equal(torch.rand(3), expected)
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize(
    ("fitting", "together", "said"),
    [
        (3, 8, "about 7 MB: set `training.micro_batch_size` to 3 "),
        (9, 8, "set `training.micro_batch_size` lower "),
        (None, 8, "set `training.micro_batch_size` lower "),
    ],
)
def test_advice_names_the_rows_that_would_fit(fitting, together, said):
    assert said in Room(fitting, 7 * 2**20).advice(together)


@pytest.mark.parametrize(("fitting", "together"), [(0, 8), (3, 1)])
def test_where_one_row_is_too_many_rows_must_be_shorter(fitting, together):
    assert Room(fitting, 2**20).advice(together) == "lower `training.max_length`, or choose a smaller student"


def test_a_machine_that_says_so_has_some_memory():
    assert free_bytes(torch.device("cpu")) > 2**20
    assert free_bytes(torch.device("meta")) is None


def test_nothing_is_said_of_rows_that_were_not_counted():
    assert Room(None, 0).advice(8).startswith("set `training.micro_batch_size` lower")


@pytest.mark.parametrize("length", [7, 100, 511, 512, 513, 2000])
def test_a_cpu_takes_as_many_of_the_longest_rows_at_once_as_its_parts_hold(length):
    table = rows(*[length] * 64)
    batch = collate([table[place] for place in range(64)], 0)
    assert min(64, most_rows_of_a_part(table.lengths)) == len(batch.split()[0])

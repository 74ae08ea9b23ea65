"""Stored targets stand at the positions of the rows that a batch holds, whatever its order."""

import numpy as np
import torch
from families import module
from test_objectives import a_batch

from potstill.training.batches import TokenRow, collate
from potstill.training.head import output_head, trained_hidden
from potstill.training.kernel import Pull, pulled_loss
from potstill.training.losses import forward_kl, log_probabilities
from potstill.training.targets import LiveTeacher, SparseArrays, SparseRows, StoredTargets


def a_row(index: int) -> TokenRow:
    generator = np.random.default_rng(index)
    length = 6 + index
    trained = np.zeros(length, dtype=bool)
    trained[2 + index :] = True
    return TokenRow(generator.integers(0, 512, length).astype(np.int32), trained, index)


def whole_store(rows, teacher) -> SparseRows:
    """All tokens' probabilities of each trained position."""
    logp = []
    for row in rows:
        batch = collate([row], 0)
        with torch.no_grad():
            logp.append(log_probabilities(output_head(teacher).logits(trained_hidden(teacher, batch))).numpy())
    starts = np.concatenate([[0], np.cumsum([len(found) for found in logp])])
    flat = np.concatenate(logp)
    ids = np.tile(np.arange(512, dtype=np.int32), (len(flat), 1))
    return SparseRows(starts, SparseArrays(ids, flat, np.full(len(flat), -np.inf, np.float32), np.ones(len(flat), bool)))


def test_stored_targets_of_any_batch_are_those_of_the_live_teacher():
    teacher, student = module("smollm"), module("smollm", seed=1)
    rows = [a_row(index) for index in range(4)]
    stored, live = StoredTargets(whole_store(rows, teacher)), LiveTeacher(teacher, 512)
    for order in ([0, 1], [3, 0, 2], [1]):
        batch = collate([rows[place] for place in order], 0)
        states = trained_hidden(student, batch)
        one, other = (pulled_loss(states, output_head(student), [Pull(targets.at(batch), forward_kl)]) for targets in (stored, live))
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_batch_counts_its_positions_row_by_row():
    batch = a_batch(512)
    assert batch.counts_B.sum() == len(batch.positions_N)

"""Several teachers in memory: mixtures, and each row by whom it was answered."""

import numpy as np
import pytest
import torch
from families import module
from test_objectives import a_batch, all_logits

from potstill.records import Example
from potstill.training.batches import TokenRows
from potstill.training.targets.live_teacher import LiveTeacher
from potstill.training.targets.several import SeveralTeachers, row_weights


def probabilities(targets, batch, chunk=4):
    target = targets.at(batch)
    count = len(batch.labels_N)
    parts = [target(slice(start, min(start + chunk, count))).logits_nV for start in range(0, count, chunk)]
    return torch.cat(parts).softmax(-1)


@pytest.mark.parametrize("weights", [[[1.0, 3.0]] * 3, [[1.0, 0.0], [0.0, 2.0], [1.0, 2.0]], [[0.0, 1.0]] * 3])
def test_each_row_has_the_weighted_mixture_of_its_teachers(weights):
    models = [module("smollm"), module("smollm", seed=1)]
    batch = a_batch(512)
    batch.rows_B[:] = [0, 1, 2]
    weights_RK = np.array(weights)
    found = probabilities(SeveralTeachers([LiveTeacher(one, 512) for one in models], weights_RK), batch)
    with torch.no_grad():
        each = [all_logits(one, batch).softmax(-1) for one in models]
    shares_N2 = torch.from_numpy(np.repeat(weights_RK / weights_RK.sum(axis=1, keepdims=True), batch.counts_B, axis=0)).float()
    torch.testing.assert_close(found, shares_N2[:, :1] * each[0] + shares_N2[:, 1:] * each[1], rtol=1e-4, atol=1e-6)


def test_a_row_is_taught_by_those_who_answered_it():
    rows = TokenRows(np.zeros(8, np.int32), np.ones(8, bool), np.arange(0, 9, 2), np.array([2, 0, 1, 3]))
    examples = [Example("x", (), teacher=name) for name in ("big", "small", "big + small", None)]
    teachers = [("big", 3.0), ("small", 1.0)]
    assert row_weights(rows, examples, teachers, by_row=True).tolist() == [[3, 1], [3, 0], [0, 1], [3, 1]]
    assert row_weights(rows, examples, teachers, by_row=False).tolist() == [[3, 1]] * 4

"""The rules behind `auto`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.training.settings import auto_batch_size, auto_learning_rate, evaluation_steps, warmup_steps


@pytest.mark.parametrize(
    ("parameters", "carved", "low", "high"),
    [
        (25e6, True, 9e-4, 1e-3),
        (70e6, True, 4.5e-4, 5.5e-4),
        (135e6, False, 2.8e-4, 3.2e-4),
        (3.8e9, False, 1.7e-5, 2.5e-5),
        (8e9, False, 0.9e-5, 1.4e-5),
    ],
)
def test_the_automatic_rate_meets_the_rates_that_worked(parameters, carved, low, high):
    assert low <= auto_learning_rate(int(parameters), carved=carved) <= high


@given(st.integers(10_000, 10**11), st.integers(10_000, 10**11), st.booleans())
def test_a_larger_model_never_gets_a_higher_rate(one, other, carved):
    small, large = sorted((one, other))
    assert auto_learning_rate(small, carved=carved) >= auto_learning_rate(large, carved=carved) > 0


@given(st.integers(135_000_000, 10**11))
def test_a_carved_model_bears_at_least_the_rate_of_a_whole_one(parameters):
    assert auto_learning_rate(parameters, carved=True) >= auto_learning_rate(parameters, carved=False)


@pytest.mark.parametrize(("rows", "epochs", "size"), [(10, 1, 8), (240, 3, 8), (600, 3, 16), (2000, 3, 32), (10**6, 1, 32)])
def test_the_automatic_batch_leaves_a_hundred_steps_where_it_can(rows, epochs, size):
    assert auto_batch_size(rows, epochs) == size
    assert size == 8 or rows * epochs / size >= 100


@given(st.integers(1, 5000), st.integers(1, 20))
def test_evaluations_are_evenly_spaced_and_end_with_the_last_step(steps, evaluations):
    found = evaluation_steps(steps, evaluations)
    assert found[-1] == steps
    assert len(set(found)) == len(found) == min(steps, evaluations)
    gaps = [b - a for a, b in zip((0, *found), found, strict=False)]
    assert max(gaps) - min(gaps) <= 1


def test_warm_up_is_rounded_up_and_none_where_none_is_wanted():
    assert warmup_steps(150, 0.05) == 8
    assert warmup_steps(10, 0.05) == 1
    assert warmup_steps(150, 0.0) == 0

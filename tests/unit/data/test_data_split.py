"""Splitting off is a partition that never tears a group, depends on content and seed alone, and hardly moves when rows come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.split import split_off
from potstill.errors import DataError

units = st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=60).filter(lambda found: len(set(found)) > 1)


@given(units, st.integers(1, 60), st.integers(0, 5))
def test_whole_groups_are_taken_and_something_is_left(groups: list[int], count: int, seed: int) -> None:
    chosen = split_off(np.array(groups, dtype=np.uint64), count, seed=seed, name="test")
    inside = {group for group, taken in zip(groups, chosen, strict=True) if taken}
    outside = {group for group, taken in zip(groups, chosen, strict=True) if not taken}
    assert inside
    assert outside
    assert not inside & outside


@given(units, st.integers(1, 60), st.integers(0, 5), st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_rows(groups: list[int], count: int, seed: int, draw: object) -> None:
    shuffled = list(groups)
    draw.shuffle(shuffled)
    once, again = (
        {
            group
            for group, taken in zip(rows, split_off(np.array(rows, dtype=np.uint64), count, seed=seed, name="test"), strict=True)
            if taken
        }
        for rows in (groups, shuffled)
    )
    assert once == again


@given(st.sets(st.integers(0, 2**64 - 1), min_size=2, max_size=200), st.integers(1, 60))
def test_rows_without_groups_are_split_exactly(rows: set[int], count: int) -> None:
    chosen = split_off(np.array(sorted(rows), dtype=np.uint64), count, seed=0, name="test")
    assert chosen.sum() == min(count, len(rows) - 1)


def test_a_new_row_moves_at_most_one_other() -> None:
    rows = np.random.default_rng(0).integers(0, 2**63, 1_000).astype(np.uint64)
    before = set(rows[split_off(rows, 100, seed=3, name="test")])
    for extra in range(50):
        grown = np.append(rows, np.uint64(extra))
        after = set(grown[split_off(grown, 100, seed=3, name="test")])
        assert len(before - after) <= 1


def test_seed_and_name_change_the_choice() -> None:
    rows = np.arange(1_000, dtype=np.uint64)
    choices = {split_off(rows, 100, seed=seed, name=name).tobytes() for seed in (0, 1) for name in ("test", "validation")}
    assert len(choices) == 4


def test_a_group_larger_than_the_share_is_taken_only_where_no_other_fits() -> None:
    groups = np.repeat(np.array([1, 2, 3], dtype=np.uint64), [50, 40, 10])
    assert set(groups[split_off(groups, 10, seed=0, name="test")]) == {3}
    groups = np.repeat(np.array([1, 2, 3], dtype=np.uint64), [50, 40, 30])
    assert set(groups[split_off(groups, 10, seed=0, name="test")]) == {3}


@given(units.filter(lambda found: len(set(found)) > 2), st.integers(1, 60), st.integers(1, 2))
def test_so_many_groups_are_kept_back_as_are_asked_for(groups: list[int], count: int, keep: int) -> None:
    rows = np.array(groups, dtype=np.uint64)
    chosen = split_off(rows, count, seed=0, name="test", keep=keep)
    assert chosen.any()
    assert len(set(rows[~chosen])) >= keep


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(DataError, match="too few rows are left to split a test set off"):
        split_off(np.zeros(5, dtype=np.uint64), 1, seed=0, name="test")

"""The effect of what was done to training rows: found where it is there, not found where it is not, over rows and seeds."""

import numpy as np
import pytest

from potstill.evaluation.resampling import Bootstrap
from potstill.pipeline.effects import Design, effect

ROWS, SEEDS = 60, 3
SETTINGS = Bootstrap(resamples=400)


def mean(totals):
    return totals[..., 0] / totals[..., 1]


def design(rows=ROWS, clusters=None, **settings):
    return Design(mean, np.arange(rows) if clusters is None else np.asarray(clusters), settings=SETTINGS, **settings)


def arm(generator, level, *, seed_noise=0.0, row_noise=0.05, hard=None, rows=ROWS, seeds=SEEDS):
    """Statistics of an arm: a level, how hard each row is, noise of each seed, and noise of each seed on each row."""
    found = []
    for _ in range(seeds):
        scores = level + generator.normal(0, seed_noise) + generator.normal(0, row_noise, size=rows) + (0 if hard is None else hard)
        found.append(np.stack([scores, np.ones(rows)], axis=1))
    return found


def test_a_planted_effect_is_found_and_has_its_direction():
    generator = np.random.default_rng(0)
    better, worse = arm(generator, 0.7), arm(generator, 0.6)
    found = effect(better, worse, design())
    assert found.finding == "better"
    assert found.interval.low < 0.1 < found.interval.high
    assert effect(worse, better, design()).finding == "worse"
    assert effect(better, worse, design(higher_is_better=False)).finding == "worse"


def test_the_same_answers_differ_by_exactly_nothing():
    same = arm(np.random.default_rng(0), 0.7, seed_noise=0.1)
    found = effect(same, same, design())
    assert (found.value, found.interval.low, found.interval.high) == (0, 0, 0)
    assert (found.finding, found.decided_by) == ("inconclusive", None)


@pytest.mark.parametrize(("seed_noise", "row_noise"), [(0.1, 0.01), (0.0, 0.3), (0.05, 0.3)])
def test_no_effect_is_covered_as_often_as_the_interval_says_whether_rows_or_seeds_vary(seed_noise, row_noise):
    generator = np.random.default_rng(1)
    tries = [
        effect(
            arm(generator, 0.5, seed_noise=seed_noise, row_noise=row_noise),
            arm(generator, 0.5, seed_noise=seed_noise, row_noise=row_noise),
            design(),
        )
        for _ in range(200)
    ]
    covered = np.mean([found.interval.low <= 0 <= found.interval.high for found in tries])
    assert covered >= 0.91  # 0.95, less 2.6 standard errors of 200 tries


def test_seeds_that_disagree_widen_the_interval_though_the_rows_are_many():
    generator = np.random.default_rng(2)
    calm, wild = (effect(arm(generator, 0.6, seed_noise=noise), arm(generator, 0.5), design()) for noise in (0.0, 0.2))
    assert wild.interval.high - wild.interval.low > 3 * (calm.interval.high - calm.interval.low)


def test_what_is_hard_for_both_does_not_widen_it():
    hard = np.random.default_rng(3).normal(0, 0.5, size=ROWS)
    easy, uneven = (
        effect(arm(np.random.default_rng(4), 0.6, hard=h), arm(np.random.default_rng(5), 0.5, hard=h), design()) for h in (None, hard)
    )
    assert uneven.interval.low == pytest.approx(easy.interval.low)


def test_rows_of_one_group_count_as_one():
    generator = np.random.default_rng(6)
    shift = np.repeat(generator.normal(0, 0.2, size=12), 5)
    first, second = arm(generator, 0.6, hard=shift), arm(generator, 0.5)
    alone, grouped = effect(first, second, design()), effect(first, second, design(clusters=np.repeat(np.arange(12), 5)))
    assert grouped.interval.high - grouped.interval.low > 1.5 * (alone.interval.high - alone.interval.low)


def test_few_rows_give_no_interval_and_no_finding():
    generator = np.random.default_rng(7)
    found = effect(arm(generator, 0.9, rows=9), arm(generator, 0.1, rows=9), design(9))
    assert (found.interval, found.finding) == (None, "inconclusive")


def test_more_seeds_or_more_rows_are_asked_for_as_the_one_or_the_other_varies():
    generator = np.random.default_rng(8)
    unsteady = [arm(generator, level, row_noise=0.01, seeds=1)[0] for level in (0.45, 0.55, 0.65)]
    by_seeds = effect(unsteady, arm(generator, 0.5, row_noise=0.01), design())
    assert by_seeds.decided_by is not None
    assert set(by_seeds.decided_by) == {"seeds"}
    # The differences' standard deviation is 0.1: 0.05 is twice its standard error at about 16 seeds.
    assert 14 <= by_seeds.decided_by["seeds"] <= 18
    shared = np.random.default_rng(9).normal(0, 0.4, size=ROWS)
    by_rows = effect(arm(generator, 0.55, row_noise=0.001, hard=shared), arm(generator, 0.5, row_noise=0.001), design())
    assert set(by_rows.decided_by) == {"rows"}
    assert by_rows.decided_by["rows"] > ROWS


def test_one_seed_is_not_enough():
    one = arm(np.random.default_rng(0), 0.5, seeds=1)
    with pytest.raises(AssertionError, match="one seed"):
        effect(one, one, design())

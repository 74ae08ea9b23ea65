"""Draws: as many units as there are, equal ones together without a difference, the same sums whatever way they are taken."""

import numpy as np
import pytest
from scipy import stats

from potstill.evaluation.intervals import cluster_rows
from potstill.evaluation.resampling import Bootstrap, Column, Study, conduct, number, resample, resample_figures


def mean(totals):
    return totals[..., 0] / totals[..., 1]


def mean_of(values, codes=None):
    values = np.asarray(values, dtype=float)
    return Column(np.stack([values, np.ones(len(values))], axis=1), mean, codes)


def alone(n):
    return cluster_rows([None] * n)


def test_number_counts_in_order_of_appearance():
    codes, first = number(["b", "a", "b", "c", "a"])
    assert codes.tolist() == [0, 1, 0, 2, 1]
    assert first.tolist() == [0, 1, 3]


@pytest.mark.parametrize(("right", "n"), [(30, 40), (300, 400), (26, 400)])
def test_right_rows_of_a_resample_are_binomial_however_many_rows_equal_each_other(right, n):
    values = (np.arange(n) < right).astype(float)
    drawn = resample_figures([mean_of(values)], alone(n), Bootstrap(resamples=20_000, seed=1))[:, 0] * n
    expected = stats.binom(n, right / n)
    assert drawn.mean() == pytest.approx(expected.mean(), abs=5 * expected.std() / np.sqrt(20_000))
    assert drawn.var() == pytest.approx(expected.var(), rel=0.06)
    assert stats.kstest(drawn + np.random.default_rng(0).uniform(-0.5, 0.5, 20_000), lambda x: smooth(expected, x)).pvalue > 1e-3


def smooth(distribution, x):
    """The distribution function of a whole number with a uniform blur of one around it."""
    below = np.floor(x + 0.5)
    return distribution.cdf(below - 1) + (x + 0.5 - below) * distribution.pmf(below)


def test_rows_that_equal_each_other_spread_as_rows_that_differ_by_next_to_nothing():
    generator = np.random.default_rng(2)
    values = generator.integers(0, 3, 300).astype(float)
    settings = Bootstrap(resamples=8_000)
    together = resample_figures([mean_of(values)], alone(300), settings)[:, 0]
    one_by_one = resample_figures([mean_of(values + generator.normal(0, 1e-9, 300))], alone(300), settings)[:, 0]
    assert together.std() == pytest.approx(one_by_one.std(), rel=0.04)
    assert np.quantile(together, [0.025, 0.975]) == pytest.approx(np.quantile(one_by_one, [0.025, 0.975]), abs=0.006)


def test_each_resample_draws_as_many_units_as_there_are_of_few_kinds_and_of_many():
    kinds = np.concatenate([np.zeros(200), np.ones(30), np.arange(2, 50)])
    indicators = Column(np.eye(50), lambda totals: totals.sum(axis=-1), kinds.astype(int))
    assert (resample([indicators], alone(278), Bootstrap(resamples=200))[0] == 278).all()


@pytest.mark.parametrize("chunk_cells", [1, 37, 10**6])
def test_size_of_a_chunk_changes_nothing_where_many_rows_equal_each_other(chunk_cells):
    values = np.random.default_rng(3).integers(0, 20, 400)
    whole = resample_figures([mean_of(values)], alone(400), Bootstrap(resamples=150))
    assert (resample_figures([mean_of(values)], alone(400), Bootstrap(resamples=150), chunk_cells=chunk_cells) == whole).all()


def test_codes_say_what_rows_written_out_say():
    codes = np.random.default_rng(4).integers(0, 6, 90)
    short, long = mean_of(np.linspace(0, 1, 6), codes), mean_of(np.linspace(0, 1, 6)[codes])
    for clusters in (alone(90), np.arange(90) // 3):
        ours, theirs = resample([short, long], clusters, Bootstrap(resamples=50))
        assert (ours == theirs).all()
    assert short.figure() == pytest.approx(long.figure())


def test_a_row_that_does_not_count_changes_no_figure():
    values = np.random.default_rng(5).random(40)
    codes = np.where(np.arange(60) < 40, np.arange(60), -1)
    column = mean_of(values, codes)
    assert column.figure() == pytest.approx(values.mean())
    drawn = resample([column, mean_of([*values, *np.zeros(20)])], alone(60), Bootstrap(resamples=100))
    assert (drawn[0] > drawn[1]).all()


def test_broad_statistics_are_summed_as_the_columns_that_they_are_made_of():
    generator = np.random.default_rng(6)
    table = generator.integers(0, 3, (12, 80)).astype(float)
    codes = generator.integers(0, 12, 900)
    other = mean_of(generator.random(900))
    broad = Column(table, lambda totals: totals @ 2.0 ** -np.arange(80), codes)
    narrow = [Column(table[:, [place]], lambda totals: totals[..., 0], codes) for place in range(80)]
    found = resample([broad, other, *narrow], alone(900), Bootstrap(resamples=60))
    assert found[0] == pytest.approx(np.stack(found[2:], axis=1) @ 2.0 ** -np.arange(80))


def test_slices_are_the_figures_of_their_rows_alone():
    generator = np.random.default_rng(7)
    values, members = generator.random(120), generator.random((120, 3)) < 0.5
    sliced = Column(mean_of(values).statistics, mean, None, members)
    assert sliced.figures() == pytest.approx([values[inside].mean() for inside in members.T])
    for clusters in (alone(120), np.arange(120) // 4):
        masked = [Column(mean_of(values).statistics * inside[:, None], mean) for inside in members.T]
        found = resample([sliced, *masked], clusters, Bootstrap(resamples=80))
        assert found[0] == pytest.approx(np.stack(found[1:], axis=1))


def test_large_whole_numbers_are_not_rounded():
    values = np.full(50, 2.0**24 + 1)
    assert (resample_figures([mean_of(values)], alone(50), Bootstrap(resamples=20)) == 2.0**24 + 1).all()


def test_studies_that_are_drawn_together_conclude_what_each_concludes_alone():
    generator = np.random.default_rng(8)
    texts = [Study([mean_of(generator.random(50))], lambda draws: draws[0].mean()) for _ in range(2)]
    labels = Study([mean_of(generator.integers(0, 2, 50)), mean_of(np.ones(50))], lambda draws: [one.mean() for one in draws])
    nothing = Study([], len)
    settings = Bootstrap(resamples=300)
    found = conduct([texts[0], labels, nothing, texts[1]], alone(50), settings)
    assert found[0] == conduct([texts[0]], alone(50), settings)[0]
    assert found[3] == conduct([texts[1]], alone(50), settings)[0]
    assert found[1][0] == pytest.approx(labels.columns[0].figure(), abs=0.02)
    assert (found[1][1], found[2]) == (1.0, 0)

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from potstill.evaluation.intervals import cluster_rows, percentile_interval, ratio, student_quantile, tail
from potstill.evaluation.resampling import Bootstrap, Column, resample_figures

BOOTSTRAP = Bootstrap(resamples=4000, confidence=0.95, seed=0)


def mean_of(values):
    """A mean as a column: sum and count of each row."""
    values = np.asarray(values, dtype=float)
    return Column(np.stack([values, np.ones(len(values))], axis=1), lambda totals: totals[..., 0] / totals[..., 1])


def alone(n):
    return cluster_rows([None] * n)


def mean_interval(values, clusters=None, bootstrap=BOOTSTRAP):
    clusters = alone(len(values)) if clusters is None else clusters
    return percentile_interval(resample_figures([mean_of(values)], clusters, bootstrap)[:, 0], clusters.max() + 1, bootstrap)


def scipys_level(units, confidence=0.95):
    """What scipy must be asked for so that its plain percentiles are our expanded ones."""
    t = stats.t.ppf((1 + confidence) / 2, units - 1)
    return 1 - 2 * stats.norm.cdf(-np.sqrt(units / (units - 1)) * t)


def test_interval_of_a_mean_is_scipys_within_monte_carlo_error():
    values = np.random.default_rng(1).exponential(size=80)
    ours = mean_interval(values)
    level = scipys_level(80)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", confidence_level=level, rng=2).confidence_interval
    tolerance = 0.1 * values.std() / np.sqrt(len(values))
    assert ours.low == pytest.approx(theirs.low, abs=tolerance)
    assert ours.high == pytest.approx(theirs.high, abs=tolerance)


def test_interval_of_a_paired_ratio_is_scipys_within_monte_carlo_error():
    generator = np.random.default_rng(3)
    teacher = generator.uniform(0.2, 1.0, size=100)
    student = teacher * 0.8 + generator.normal(0, 0.1, size=100)
    draws = resample_figures([mean_of(student), mean_of(teacher)], alone(100), BOOTSTRAP)
    ours = percentile_interval(ratio(draws[:, 0], draws[:, 1]), 100, BOOTSTRAP)

    def kept(a, b, axis=-1):
        return a.mean(axis=axis) / b.mean(axis=axis)

    settings = {"paired": True, "n_resamples": 20_000, "method": "percentile", "confidence_level": scipys_level(100), "rng": 4}
    theirs = stats.bootstrap((student, teacher), kept, **settings).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.003)
    assert ours.high == pytest.approx(theirs.high, abs=0.003)


def test_95_percent_intervals_cover_the_truth_about_95_times_in_100():
    generator, covered = np.random.default_rng(5), 0
    for experiment in range(300):
        values = (generator.random(100) < 0.7).astype(float)
        interval = mean_interval(values, bootstrap=Bootstrap(resamples=600, seed=experiment))
        covered += interval.low <= 0.7 <= interval.high
    assert 0.90 <= covered / 300 <= 0.98


def test_95_percent_intervals_of_clustered_rows_cover_the_truth_too():
    generator, covered, ignoring = np.random.default_rng(6), 0, 0
    groups = [str(index // 5) for index in range(200)]
    for experiment in range(300):
        values = np.repeat(generator.normal(1.0, 1.0, size=40), 5) + generator.normal(0, 0.3, size=200)
        bootstrap = Bootstrap(resamples=600, seed=experiment)
        by_group, by_row = mean_interval(values, cluster_rows(groups), bootstrap), mean_interval(values, bootstrap=bootstrap)
        covered += by_group.low <= 1.0 <= by_group.high
        ignoring += by_row.low <= 1.0 <= by_row.high
    assert 0.88 <= covered / 300 <= 0.98
    assert ignoring / 300 < 0.75


@pytest.mark.parametrize("units", [10, 12, 20, 40])
@pytest.mark.parametrize("draw", [lambda g, n: g.normal(1.0, 1.0, n), lambda g, n: g.exponential(1.0, n)], ids=["normal", "skewed"])
def test_intervals_of_few_groups_cover_the_truth_as_often_as_the_t_interval_does(units, draw):
    generator, ours, oracle = np.random.default_rng(units), 0, 0
    groups = cluster_rows([str(index // 4) for index in range(4 * units)])
    for experiment in range(400):
        values = draw(generator, units)
        interval = mean_interval(np.repeat(values, 4), groups, Bootstrap(resamples=600, seed=experiment))
        ours += interval.low <= 1.0 <= interval.high
        oracle += abs(stats.ttest_1samp(values, 1.0).statistic) <= stats.t.ppf(0.975, units - 1)
    assert ours / 400 == pytest.approx(oracle / 400, abs=0.02)


def test_fewer_than_ten_groups_have_no_interval():
    values = np.random.default_rng(12).normal(size=40)
    assert mean_interval(values, cluster_rows([str(index % 9) for index in range(40)])) is None
    assert mean_interval(values, cluster_rows([str(index % 10) for index in range(40)])) is not None


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize("units", [10, 17, 50, 5000])
def test_tails_are_those_of_their_formula(units, confidence):
    assert student_quantile((1 + confidence) / 2, units - 1) == pytest.approx(stats.t.ppf((1 + confidence) / 2, units - 1), rel=1e-3)
    assert 2 * tail(units, confidence) == pytest.approx(1 - scipys_level(units, confidence), rel=1e-2)


@pytest.mark.parametrize("degrees", [1, 1.4, 2, 5.5, 30, 1e6])
def test_students_quantiles_are_right_for_few_and_for_broken_degrees_of_freedom(degrees):
    assert student_quantile(0.975, degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-3)


def test_pairing_narrows_the_interval_of_a_difference():
    generator = np.random.default_rng(7)
    hard = generator.normal(size=150)
    first, second = hard + generator.normal(0, 0.1, size=150), hard + generator.normal(0, 0.1, size=150)
    paired = resample_figures([mean_of(first), mean_of(second)], alone(150), BOOTSTRAP)
    other = resample_figures([mean_of(second)], alone(150), Bootstrap(resamples=4000, seed=99))
    width_paired = np.ptp(np.quantile(paired[:, 0] - paired[:, 1], [0.025, 0.975]))
    width_unpaired = np.ptp(np.quantile(paired[:, 0] - other[:, 0], [0.025, 0.975]))
    assert width_paired < 0.3 * width_unpaired


def test_drawing_groups_widens_the_interval_of_rows_that_resemble_each_other():
    values = np.repeat(np.random.default_rng(8).normal(size=30), 10)
    by_row = mean_interval(values)
    by_group = mean_interval(values, cluster_rows([str(index // 10) for index in range(300)]))
    assert by_group.high - by_group.low > 2 * (by_row.high - by_row.low)


def test_one_group_a_row_is_the_same_as_no_groups():
    values = np.random.default_rng(9).normal(size=40)
    assert mean_interval(values, cluster_rows([f"g{index}" for index in range(40)])) == mean_interval(values)


def test_same_seed_gives_same_interval_and_another_seed_another():
    values = np.random.default_rng(10).normal(size=50)
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values) != mean_interval(values, bootstrap=Bootstrap(resamples=4000, seed=1))


@pytest.mark.parametrize("chunk_cells", [1, 37, 1000, 10**7])
def test_size_of_a_chunk_changes_nothing(chunk_cells):
    values = np.random.default_rng(11).integers(0, 2, size=30)
    bootstrap = Bootstrap(resamples=200, seed=3)
    whole = resample_figures([mean_of(values)], alone(30), bootstrap)
    assert (resample_figures([mean_of(values)], alone(30), bootstrap, chunk_cells=chunk_cells) == whole).all()


def test_each_resample_draws_as_many_units_as_there_are():
    count = Column(np.ones((25, 1)), lambda totals: totals[..., 0])
    assert (resample_figures([count], alone(25), Bootstrap(resamples=100)) == 25).all()


def test_rows_of_a_group_are_drawn_together():
    groups = ["a", "b", "a", None, "b", "a"]
    indicators = Column(np.eye(6), lambda totals: totals @ 7.0 ** np.arange(6))
    drawn = resample_figures([indicators], cluster_rows(groups), Bootstrap(resamples=300))[:, 0].astype(int)
    digits = np.stack([drawn // 7**power % 7 for power in range(6)], axis=1)
    assert (digits[:, 0] == digits[:, 2]).all()
    assert (digits[:, 0] == digits[:, 5]).all()
    assert (digits[:, 1] == digits[:, 4]).all()


def test_rows_without_a_group_stand_alone():
    assert cluster_rows(["x", None, "x", None, "y"]).tolist() == [0, 1, 0, 2, 3]


@given(value=st.floats(-100, 100), n=st.integers(10, 40), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_interval_of_constant_data_has_no_width(value, n, seed):
    interval = mean_interval([value] * n, bootstrap=Bootstrap(resamples=100, seed=seed))
    assert interval.low == pytest.approx(value, abs=1e-9)
    assert interval.high == pytest.approx(value, abs=1e-9)


@given(values=st.lists(st.floats(0.01, 1.0), min_size=2, max_size=60), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_ratio_of_a_system_to_itself_is_exactly_one(values, seed):
    draws = resample_figures(
        [mean_of(values), mean_of([0.5] * len(values)), mean_of(values)], alone(len(values)), Bootstrap(100, 0.95, seed)
    )
    assert (ratio(draws[:, 0], draws[:, 2]) == 1.0).all()


@given(values=st.lists(st.floats(-10, 10), min_size=10, max_size=40), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_interval_lies_within_the_data(values, seed):
    interval = mean_interval(values, bootstrap=Bootstrap(100, 0.9, seed))
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9


def test_interval_is_not_available_where_too_many_resamples_are_undefined():
    teacher = [1.0] + [0.0] * 9
    draws = resample_figures([mean_of([0.5] * 10), mean_of(teacher)], alone(10), BOOTSTRAP)
    assert percentile_interval(ratio(draws[:, 0], draws[:, 1]), 10, BOOTSTRAP) is None


def test_undefined_resamples_count_as_lying_beyond_either_end():
    figures = np.linspace(0.0, 1.0, 1001)
    whole = percentile_interval(figures, 100, BOOTSTRAP)
    figures[[300, 500, 700]] = np.nan
    holed = percentile_interval(figures, 100, BOOTSTRAP)
    assert holed.low == pytest.approx(whole.low - 0.003, abs=2e-4)
    assert holed.high == pytest.approx(whole.high + 0.003, abs=2e-4)


def test_undefined_figures_make_no_noise():
    empty = Column(np.zeros((3, 2)), lambda totals: totals[..., 0] / totals[..., 1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(empty.figure())
        assert np.isnan(resample_figures([empty], alone(3), Bootstrap(resamples=5))).all()

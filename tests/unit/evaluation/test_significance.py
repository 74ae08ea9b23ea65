"""Paired tests against scipy's, and as often significant as they say where there is nothing to find."""

import numpy as np
import pytest
from scipy import stats

from potstill.evaluation.compare import score_systems
from potstill.evaluation.intervals import cluster_rows
from potstill.evaluation.resampling import Bootstrap, Column
from potstill.evaluation.significance import compare_pairs, mcnemar, paired_tests
from potstill.tasks.metrics import build_metric
from potstill.tasks.metrics.base import Prediction


def column(values):
    values = np.asarray(values, dtype=float)
    return Column(np.stack([values, np.ones(len(values))], axis=1), lambda totals: totals[..., 0] / totals[..., 1])


def exchanged(first, second, clusters=None, settings=None):
    clusters = cluster_rows([None] * len(first)) if clusters is None else clusters
    return paired_tests([(column(first), column(second))], clusters, settings or Bootstrap())[0]


def scipys_p(first, second, **settings):
    """The exchange of pairs, two-sided by the size of the difference."""
    found = stats.permutation_test(
        (first, second),
        lambda a, b, axis: np.abs(a.mean(axis=axis) - b.mean(axis=axis)),
        permutation_type="samples",
        vectorized=True,
        alternative="greater",
        **settings,
    )
    return found.pvalue


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (3, 9), (12, 12), (40, 71), (600, 700), (6_000, 6_300)])
def test_mcnemar_is_the_exact_binomial_test(b, c):
    expected = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert mcnemar(b, c) == mcnemar(c, b) == pytest.approx(expected, rel=1e-9)


def test_right_and_wrong_rows_are_tested_by_mcnemar():
    found = exchanged([1, 1, 1, 0, 1, 1, 1, 1], [0, 0, 1, 1, 0, 0, 1, 1])
    assert (found.method, found.n) == ("mcnemar", 8)
    assert found.p == pytest.approx(stats.binomtest(1, 5, 0.5).pvalue)


def test_few_rows_are_exchanged_in_every_way_as_scipy_does():
    generator = np.random.default_rng(1)
    first = generator.random(11)
    second = first + generator.normal(0.1, 0.2, 11)
    found = exchanged(first, second)
    assert found.method == "permutation"
    assert found.p == pytest.approx(scipys_p(first, second, n_resamples=np.inf), abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.05])
def test_many_rows_have_scipys_p_within_monte_carlo_error(shift):
    generator = np.random.default_rng(2)
    first = generator.random(150)
    second = first + generator.normal(shift, 0.2, 150)
    expected = scipys_p(first, second, n_resamples=10_000, rng=3)
    assert exchanged(first, second).p == pytest.approx(expected, abs=4 * np.sqrt(2 * expected * (1 - expected) / 10_000) + 3e-4)


def test_an_exchange_of_right_and_wrong_rows_is_mcnemars_test():
    first, second = np.repeat([1.0, 0.0, 1.0], [30, 14, 400]), np.repeat([0.0, 1.0, 1.0], [30, 14, 400])
    pairs = np.arange(888) // 2  # each row twice over, in a group of its own
    found = exchanged(np.repeat(first, 2), np.repeat(second, 2), pairs)
    assert (found.method, found.n) == ("permutation", 444)
    assert found.p == pytest.approx(mcnemar(30, 14), abs=0.005)


def test_groups_are_exchanged_whole():
    """Ten groups that err as one say less than a hundred rows would."""
    shift = np.repeat([0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, -0.1, -0.1, -0.1], 10)
    first = np.random.default_rng(4).random(100)
    by_row, by_group = exchanged(first, first + shift), exchanged(first, first + shift, np.arange(100) // 10)
    assert by_row.p < 0.001
    assert by_group.p == pytest.approx(stats.binomtest(3, 10, 0.5).pvalue)
    assert by_group.n == 10


@pytest.mark.parametrize("groups", [None, 4])
def test_where_there_is_no_difference_one_test_in_twenty_finds_one(groups):
    generator = np.random.default_rng(5)
    clusters = None if groups is None else np.arange(120) // groups
    found = 0
    for experiment in range(400):
        common = generator.normal(size=120)
        noise = generator.normal(size=(2, 120)) if groups is None else np.repeat(generator.normal(size=(2, 30)), 4, axis=1)
        first, second = common + noise[0], common + noise[1]
        found += exchanged(first, second, clusters, Bootstrap(resamples=400, seed=experiment)).p <= 0.05
    assert 0.02 <= found / 400 <= 0.08  # 0.05 and 2.7 standard errors


def test_systems_that_answer_alike_do_not_differ():
    values = np.random.default_rng(6).random(50)
    assert exchanged(values, values).p == 1.0
    assert exchanged([1.0] * 9, [1.0] * 9).p == 1.0


def test_p_of_random_exchanges_is_never_zero():
    values = np.random.default_rng(7).random(200)
    assert exchanged(values, values + 1.0, settings=Bootstrap(resamples=500)).p == 1 / 501


def answers(right, labels):
    """Rows whose answers are right, or the other label."""
    return [
        Prediction(label if is_right else "abc"["abc".index(label) - 1], (label,)) for label, is_right in zip(labels, right, strict=True)
    ]


def test_macro_f1_is_exchanged_by_whole_answers():
    generator = np.random.default_rng(8)
    labels = generator.choice(list("abc"), 60, p=[0.7, 0.2, 0.1])
    given = {name: answers(generator.random(60) < share, labels) for name, share in (("student", 0.75), ("teacher", 0.9))}
    [scored] = score_systems([build_metric("macro_f1", ("a", "b", "c"))], given)
    settings = Bootstrap(resamples=4_000)
    found = compare_pairs(scored, cluster_rows([None] * 60), settings)["student"]["teacher"].p
    rows = {name: one.statistics[one.rows] for name, one in scored.columns.items()}
    value, larger = scored.metric.value, 0
    observed = abs(value(rows["student"].sum(axis=0)) - value(rows["teacher"].sum(axis=0)))
    for _ in range(4_000):
        swap = generator.random((60, 1)) < 0.5
        one = np.where(swap, rows["teacher"], rows["student"]).sum(axis=0)
        larger += abs(value(one) - value(sum(rows.values()).sum(axis=0) - one)) >= observed - 1e-12
    assert found == pytest.approx(larger / 4_000, abs=0.03)


def test_student_and_plain_student_are_tested_against_all_others_and_each_pair_once():
    given = {name: [Prediction("a", ("a",))] * 12 for name in ("teacher", "baseline", "sft", "student", "gpt-4.1-mini")}
    [scored] = score_systems([build_metric("accuracy")], given)
    found = compare_pairs(scored, cluster_rows([None] * 12), Bootstrap())
    assert {system: set(against) for system, against in found.items()} == {
        "student": {"teacher", "baseline", "sft", "gpt-4.1-mini"},
        "sft": {"teacher", "baseline", "gpt-4.1-mini"},
    }

"""Several seeds: what rows give to the spread, and what seeds give."""

import numpy as np
import pytest

from potstill.evaluation.compare import score_systems
from potstill.evaluation.intervals import cluster_rows
from potstill.evaluation.resampling import Bootstrap, resample_figures
from potstill.evaluation.seeds import spread_of_seeds
from potstill.tasks.metrics import build_metric
from potstill.tasks.metrics.base import Prediction

ACCURACY, SETTINGS = build_metric("accuracy"), Bootstrap(resamples=1_000)


def run(right):
    return [Prediction("yes" if one else "no", ("yes",)) for one in right]


def spread(*runs, groups=None, settings=SETTINGS):
    [scored] = score_systems([ACCURACY], {str(place): run(one) for place, one in enumerate(runs)})
    columns, clusters = list(scored.columns.values()), cluster_rows(groups or [None] * len(runs[0]))
    figures, draws = np.array([column.figure() for column in columns]), resample_figures(columns, clusters, settings)
    return spread_of_seeds(figures, draws, int(clusters.max()) + 1, settings, same_rows=True)


def test_between_is_the_deviation_of_the_scores_and_within_that_of_a_score():
    generator = np.random.default_rng(1)
    runs = [generator.random(400) < level for level in (0.7, 0.8, 0.9)]
    scores = [one.mean() for one in runs]
    found = spread(*runs)
    assert found.runs == 3
    assert found.mean == pytest.approx(np.mean(scores))
    assert found.between_sd == pytest.approx(np.std(scores, ddof=1))
    assert found.within_sd == pytest.approx(np.sqrt(np.mean([one.var() / 399 for one in runs])), rel=0.06)
    assert found.to_json()["interval"]["low"] < found.mean < found.to_json()["interval"]["high"]


def test_runs_that_answer_alike_have_no_spread_between_them_and_the_rows_interval():
    right = np.arange(200) < 150
    found = spread(right, right)
    assert found.between_sd == 0
    assert found.interval.high - found.interval.low == pytest.approx(2 * 1.972 * found.within_sd, rel=0.02)


def test_groups_that_err_as_one_spread_a_score_further():
    right = np.repeat(np.random.default_rng(2).random(40) < 0.7, 5)
    assert spread(right, right, groups=[str(i // 5) for i in range(200)]).within_sd > 1.8 * spread(right, right).within_sd


def test_few_rows_have_no_interval():
    assert spread([True] * 5 + [False] * 4, [True] * 9).interval is None


def test_intervals_of_three_seeds_cover_the_truth():
    generator, covered = np.random.default_rng(3), 0
    for number in range(300):
        levels = generator.normal(0.75, 0.04, 3)
        runs = [generator.random(100) < level for level in levels]
        found = spread(*runs, settings=Bootstrap(resamples=200, seed=number))
        covered += found.interval.low <= 0.75 <= found.interval.high
    assert 0.92 <= covered / 300 <= 0.99

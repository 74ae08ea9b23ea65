"""95 % intervals hold the truth in 93 to 97 of 100 simulated experiments, 2,000 each: scores, ratios, gain, groups, slices."""

import numpy as np
import pytest

from potstill.evaluation.intervals import percentile_interval, ratio
from potstill.evaluation.resampling import Bootstrap, Column, resample
from potstill.tasks.metrics import build_metric
from potstill.tasks.metrics.base import Prediction

EXPERIMENTS = 2_000


def mean(totals):
    return totals[..., 0] / totals[..., 1]


def column(values, members=None):
    return Column(np.stack([values, np.ones(len(values))], axis=1), mean, None, members)


def coverage(experiment, truth):
    """The share of experiments whose interval holds the truth. `experiment` gives columns, clusters, and what is made of the draws.

    All experiments are drawn by one set of resamples, which saves the drawing: each is another sample of as many rows.
    """
    generator, settings = np.random.default_rng(11), Bootstrap(resamples=2_000)
    made = [experiment(generator) for _ in range(EXPERIMENTS)]
    _, clusters, combine = made[0]
    draws = iter(resample([column for columns, _, _ in made for column in columns], clusters, settings))
    covered = 0
    for columns, _, _ in made:
        interval = percentile_interval(combine(*(next(draws) for _ in columns)), int(clusters.max()) + 1, settings)
        covered += interval.low <= truth <= interval.high
    return covered / EXPERIMENTS


def paired(generator, n):
    """Student right on 0.72 of the rows, teacher on 0.9 of them, and together on hard and easy ones."""
    hard = generator.random(n)
    return (0.8 * hard + 0.2 * generator.random(n) < 0.72).astype(float), (0.8 * hard + 0.2 * generator.random(n) < 0.9).astype(float)


ROWS = np.arange(150)
# P(0.8 U + 0.2 V < c) for uniform U, V: (c − 0.1) / 0.8 between 0.2 and 0.8, and 1 − (1 − c)² / 0.32 above.
STUDENT, TEACHER = (0.72 - 0.1) / 0.8, 1 - 0.1**2 / 0.32


def accuracy(generator):
    return [column(paired(generator, 150)[0])], ROWS, lambda draws: draws


def retention(generator):
    return [column(one) for one in paired(generator, 150)], ROWS, ratio


def gain(generator):
    return [column(one) for one in paired(generator, 150)], ROWS, np.subtract


BASELINE = (0.3 - 0.1) / 0.8


def gap_recovered(generator):
    """A baseline that is right on 0.3 of the rows, the easy ones first, as the others are."""
    hard, noise = generator.random(150), generator.random((3, 150))
    right = [(0.8 * hard + 0.2 * own < bound).astype(float) for own, bound in zip(noise, (0.72, 0.3, 0.9), strict=True)]
    return [column(one) for one in right], ROWS, lambda own, base, teacher: ratio(own - base, teacher - base)


NAMES = ("a", "b", "c")
MACRO_F1 = build_metric("macro_f1", NAMES)
# Labels of 0.5, 0.3 and 0.2 of the rows, answered rightly in 0.85, 0.7 and 0.6 of them, and else by either other label.
ANSWERED = np.array([(0.425, 0.0375, 0.0375), (0.045, 0.21, 0.045), (0.04, 0.04, 0.12)]).ravel()
PAIRS = MACRO_F1.statistics([Prediction(answer, (gold,)) for gold in NAMES for answer in NAMES])


def macro_f1(generator):
    return [Column(PAIRS, MACRO_F1.value, generator.choice(9, 200, p=ANSWERED))], np.arange(200), lambda draws: draws


def text_scores(generator):
    return [column(generator.beta(2, 5, 100))], np.arange(100), lambda draws: draws


def grouped(generator):
    shared, own = generator.normal(1.0, 1.0, 40), generator.normal(0.0, 0.3, 200)
    return [column(np.repeat(shared, 5) + own)], np.arange(200) // 5, lambda draws: draws


def few_groups(generator):
    shared, own = generator.normal(1.0, 1.0, 12), generator.normal(0.0, 0.3, 120)
    return [column(np.repeat(shared, 10) + own)], np.arange(120) // 10, lambda draws: draws


def a_slice(generator):
    values, members = generator.beta(2, 5, 200), generator.random((200, 1)) < 0.4
    return [column(values, members)], np.arange(200), lambda draws: draws[:, 0]


@pytest.mark.parametrize(
    ("experiment", "truth"),
    [
        (accuracy, STUDENT),
        (retention, STUDENT / TEACHER),
        (gain, STUDENT - TEACHER),
        (gap_recovered, (STUDENT - BASELINE) / (TEACHER - BASELINE)),
        (macro_f1, float(MACRO_F1.value(ANSWERED @ PAIRS))),
        (text_scores, 2 / 7),
        (grouped, 1.0),
        (few_groups, 1.0),
        (a_slice, 2 / 7),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_intervals_cover_the_truth_as_often_as_they_say(experiment, truth):
    assert 0.93 <= coverage(experiment, truth) <= 0.97

"""Which label was answered for which, and whether systems are right as often as they say."""

import numpy as np
import pytest

from potstill.evaluation.calibration import Stated, calibration, confidence_of
from potstill.evaluation.confusion import confuse, confuse_systems
from potstill.evaluation.resampling import Bootstrap, conduct
from potstill.tasks.metrics.base import Prediction

LABELS = ("a", "b", "c")


def test_the_matrix_counts_references_in_rows_and_answers_in_columns():
    given = [("a", "a"), ("a", "b"), ("a", "b"), ("b", "b"), ("c", None), ("b", "a"), ("a", None)]
    found = confuse(LABELS, [Prediction(answer, (reference,)) for reference, answer in given]).to_json()
    assert found == {"labels": ["a", "b", "c"], "counts": [[1, 2, 0], [1, 1, 0], [0, 0, 0]], "unparsable": [1, 0, 1]}


def test_of_several_references_the_answered_one_is_the_label():
    found = confuse(LABELS, [Prediction("b", ("a", "b")), Prediction("c", ("a", "b"))])
    assert found.counts.tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_a_reference_outside_the_set_is_no_row_of_the_matrix():
    assert confuse(LABELS, [Prediction("a", ("z",)), Prediction("a", ("a",))]).counts.sum() == 1


def test_there_is_no_matrix_without_a_closed_set_or_of_hundreds_of_labels():
    given = {"student": [Prediction("a", ("a",))]}
    assert confuse_systems((), given) == {}
    assert confuse_systems([str(label) for label in range(201)], given) == {}
    assert set(confuse_systems(LABELS, given)) == {"student"}


def calibrated(confidence, right, clusters=None):
    stated = {"student": Stated(np.asarray(confidence, dtype=float), np.asarray(right, dtype=float))}
    clusters = np.arange(len(confidence)) if clusters is None else clusters
    settings = Bootstrap(resamples=500)
    return conduct([calibration(stated, clusters, settings)], clusters, settings)[0].get("student")


def test_the_error_is_the_mean_distance_of_confidence_and_accuracy_weighed_by_rows():
    # Two bins: 0.95 said and 3 of 4 right; 0.55 said and 1 of 6 right.
    found = calibrated([0.95] * 4 + [0.55] * 6, [1, 1, 1, 0, 1, 0, 0, 0, 0, 0])
    assert found.ece.value == pytest.approx(0.4 * 0.2 + 0.6 * (0.55 - 1 / 6))
    assert [(one.low, one.n, one.confidence, one.accuracy) for one in found.bins] == [
        (0.5, 6, pytest.approx(0.55), pytest.approx(1 / 6)),
        (0.9, 4, pytest.approx(0.95), 0.75),
    ]


def test_bins_hold_their_upper_end_and_the_first_one_nought():
    found = calibrated([0.0, 0.1, 0.5, 1.0], [0, 0, 1, 1])
    assert [(one.low, one.high, one.n) for one in found.bins] == [(0.0, 0.1, 2), (0.4, 0.5, 1), (0.9, 1.0, 1)]


def test_a_system_that_says_the_truth_is_calibrated_and_one_that_boasts_is_not():
    generator = np.random.default_rng(1)
    chance = generator.uniform(0.5, 1.0, 4_000)
    right = generator.random(4_000) < chance
    assert calibrated(chance, right).ece.value < 0.03
    boast = calibrated(np.full(4_000, 0.99), right).ece
    assert boast.value == pytest.approx(0.99 - right.mean())
    assert boast.interval.low < boast.value < boast.interval.high
    assert boast.interval.high - boast.interval.low == pytest.approx(3.92 * right.std() / np.sqrt(4_000), rel=0.15)


def test_rows_without_probabilities_do_not_count():
    found = calibrated([0.9, np.nan, 0.9, np.nan], [1, 0, 1, 0])
    assert (found.ece.n, found.ece.value) == (2, pytest.approx(0.1))
    assert calibrated([np.nan] * 3, [1, 0, 1]) is None


def test_confidence_is_that_in_the_answer_and_the_largest_where_the_answer_is_no_label():
    shares = {"a": 0.7, "b": 0.3}
    assert [confidence_of(answer, shares) for answer in ("a", "b", None, "z")] == [0.7, 0.3, 0.7, 0.7]
    assert np.isnan(confidence_of("a", {}))

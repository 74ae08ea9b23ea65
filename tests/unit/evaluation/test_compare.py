import json

import numpy as np
import pytest

from potstill.errors import DataError
from potstill.evaluation.compare import compare_systems, estimate_to_json, score_to_json
from potstill.evaluation.resampling import Bootstrap
from potstill.tasks.metrics.base import Prediction

BOOTSTRAP = Bootstrap(resamples=500, seed=0)


class ExactMatch:
    """Share of answers that equal the reference; here, so that these tests depend on no other metric."""

    name, title, higher_is_better = "exact", "exact match", True

    def statistics(self, predictions):
        return np.array([[float(p.answer in p.references), 1.0] for p in predictions]).reshape(-1, 2)

    def value(self, totals):
        return totals[..., 0] / totals[..., 1]


def answers(right, n):
    """n predictions, the first `right` of them right."""
    return [Prediction("yes" if index < right else None, ("yes",)) for index in range(n)]


def compare(groups=None, **right):
    n = 20
    return compare_systems([ExactMatch()], {name: answers(k, n) for name, k in right.items()}, groups or [None] * n, BOOTSTRAP)


def test_figures_are_those_of_their_formulas():
    found = compare(teacher=16, baseline=4, student=12)
    student = found.estimates["exact"]["student"]
    assert found.scores["student"]["exact"].value == 12 / 20
    assert student["retention"].value == pytest.approx(12 / 16)
    assert student["gain"].value == pytest.approx((12 - 4) / 20)
    assert student["gap_recovered"].value == pytest.approx((12 - 4) / (16 - 4))
    assert found.estimates["exact"]["baseline"]["retention"].value == 4 / 16
    assert "teacher" not in found.estimates["exact"]


def test_intervals_hold_the_figures_and_say_how_they_were_made():
    retention = compare(teacher=16, baseline=4, student=12).estimates["exact"]["student"]["retention"]
    assert retention.interval.low < retention.value < retention.interval.high
    assert (retention.interval.confidence, retention.interval.resamples) == (0.95, 500)


def test_a_student_that_equals_its_teacher_kept_exactly_all():
    retention = compare(teacher=9, student=9).estimates["exact"]["student"]["retention"]
    assert (retention.value, retention.interval.low, retention.interval.high) == (1.0, 1.0, 1.0)


def test_retention_of_a_teacher_that_scores_nothing_is_not_available():
    retention = compare(teacher=0, student=5).estimates["exact"]["student"]["retention"]
    assert retention.value is None
    assert retention.interval is None


def test_retention_has_no_interval_where_the_teacher_scores_nothing_in_many_resamples_and_says_in_how_many():
    retention = compare(teacher=1, student=5).estimates["exact"]["student"]["retention"]
    assert retention.value == 5.0
    assert retention.interval is None
    assert retention.undefined == pytest.approx((19 / 20) ** 20, abs=0.08)


def test_a_few_resamples_without_a_ratio_widen_the_interval_and_do_not_cost_it():
    retention = compare(teacher=4, student=3).estimates["exact"]["student"]["retention"]
    assert 0 < retention.undefined < 0.02
    assert retention.interval.low < 0.75 < retention.interval.high


def test_gap_is_not_recovered_where_the_baseline_beats_the_teacher():
    assert compare(teacher=5, baseline=9, student=7).estimates["exact"]["student"]["gap_recovered"].value is None


def test_without_teacher_there_is_no_retention_and_without_baseline_no_gain():
    assert set(compare(student=5, baseline=2).estimates["exact"]["student"]) == {"gain"}
    assert set(compare(student=5, teacher=9).estimates["exact"]["student"]) == {"retention"}


def test_one_group_alone_has_figures_but_no_intervals():
    found = compare(groups=["g"] * 20, teacher=10, student=5)
    assert found.scores["student"]["exact"].interval is None
    assert found.estimates["exact"]["student"]["retention"].value == 0.5
    assert found.estimates["exact"]["student"]["retention"].interval is None


def test_no_rows_are_an_error_and_not_a_zero():
    with pytest.raises(DataError, match="nothing to score"):
        compare_systems([ExactMatch()], {"student": []}, [], BOOTSTRAP)


def test_json_holds_null_where_a_figure_is_undefined():
    class Undefined(ExactMatch):
        def value(self, totals):
            return totals[..., 0] * np.nan

    found = compare_systems([Undefined()], {"teacher": answers(1, 3), "student": answers(1, 3)}, [None] * 3, BOOTSTRAP)
    score = score_to_json(found.scores["student"]["exact"])
    retention = estimate_to_json(found.estimates["exact"]["student"]["retention"])
    assert json.loads(json.dumps([score, retention], allow_nan=False)) == [
        {"value": None, "n": 3, "interval": None},
        {"value": None, "interval": None, "undefined": 1.0},
    ]


def test_the_difference_to_the_plain_student_is_paired_and_of_the_student_alone():
    found = compare(sft=9, student=12)
    over = found.estimates["exact"]["student"]["over_sft"]
    assert over.value == pytest.approx((12 - 9) / 20)
    # Paired, only three of twenty rows differ, and none in the plain one's favour.
    assert over.interval.low >= 0
    assert found.estimates["exact"]["sft"] == {}
    assert compare(sft=9, student=9).estimates["exact"]["student"]["over_sft"].interval.high == 0


def test_the_difference_to_each_other_system_is_paired_and_of_the_student_alone():
    found = compare(teacher=16, baseline=2, student=12, tfidf=9, other=14)
    student = found.estimates["exact"]["student"]
    assert student["over_tfidf"].value == pytest.approx((12 - 9) / 20)
    assert student["over_other"].value == pytest.approx((12 - 14) / 20)
    # Paired: wherever the line is right the student is, too, and the other way round.
    assert student["over_tfidf"].interval.low >= 0 >= student["over_other"].interval.high
    assert {name for name in student if name.startswith("over_")} == {"over_tfidf", "over_other"}
    assert set(found.estimates["exact"]["tfidf"]) == {"retention", "gain", "gap_recovered"}

"""What goals about time, memory, money and users are judged by: closed forms, and intervals that cover the truth."""

import numpy as np
import pytest

from potstill.report.savings import concurrent_users, cost_reduction, latency_reduction, memory_reduction


def timed(**samples):
    return {system: {"latency_s": {"samples": list(found)}} for system, found in samples.items()}


def levels(*found):
    return {"throughput": [{"concurrency": n, "requests_per_s": rate, "p95_s": p95} for n, rate, p95 in found]}


def test_a_student_that_takes_a_fifth_of_the_time_on_every_question_saves_four_fifths_exactly():
    teacher = np.random.default_rng(0).exponential(size=40)
    found = latency_reduction(timed(teacher=teacher, student=teacher / 5))
    assert found["value"] == pytest.approx(0.8)
    assert [found["interval"]["low"], found["interval"]["high"]] == pytest.approx([0.8, 0.8])


def test_intervals_of_time_saved_cover_the_truth_as_often_as_they_say_and_are_narrow_enough_to_be_of_use():
    rng = np.random.default_rng(1)
    covered, widths = [], []
    for _ in range(300):
        length = rng.lognormal(0.0, 0.5, size=30)
        noise = rng.lognormal(0.0, 0.2, size=(2, 30))
        found = latency_reduction(timed(teacher=length * noise[0], student=0.3 * length * noise[1]), resamples=400)["interval"]
        covered.append(found["low"] <= 0.7 <= found["high"])
        widths.append(found["high"] - found["low"])
    assert np.mean(covered) >= 0.95, "medians of few answers are drawn from few values, so a little too often"
    assert np.mean(widths) < 0.14


def test_few_answers_have_no_interval_and_none_have_no_figure():
    assert latency_reduction(timed(teacher=[2.0] * 9, student=[1.0] * 9)) == {"value": 0.5, "interval": None, "undefined": 0.0}
    assert latency_reduction({"student": {}})["value"] is None
    assert latency_reduction(timed(teacher=[1.0, 2.0], student=[1.0]))["value"] is None, "samples that do not pair"


def test_memory_is_compared_where_both_were_measured_alike():
    both = {"peak_above_empty_bytes": 100, "peak_gpu_bytes": None}
    assert memory_reduction({"teacher": both, "student": both | {"peak_above_empty_bytes": 5}})["value"] == pytest.approx(0.95)
    on_gpu = {"teacher": both | {"peak_gpu_bytes": 1000}, "student": both | {"peak_gpu_bytes": 100}}
    assert memory_reduction(on_gpu)["value"] == pytest.approx(0.9)
    assert memory_reduction({"teacher": {"over_the_wire": True}, "student": both})["value"] is None


def test_costs_are_compared_where_both_are_known():
    def cost(**dollars):
        return {"per_1000_requests": {system: {"dollars": found} for system, found in dollars.items()}}

    assert cost_reduction(cost(teacher=2.0, student=0.5))["value"] == pytest.approx(0.75)
    assert cost_reduction(cost(teacher=None, student=0.5))["value"] is None
    assert cost_reduction(cost(teacher=0.0, student=0.5))["value"] is None
    assert cost_reduction(cost(student=0.5))["value"] is None


def test_users_are_those_who_wait_no_longer_than_with_the_teacher_alone():
    teacher = levels((1, 2.0, 0.6), (4, 6.0, 0.9))
    student = levels((1, 9.0, 0.1), (4, 20.0, 0.3), (16, 50.0, 0.6), (64, 80.0, 1.2))
    assert concurrent_users({"teacher": teacher, "student": student})["value"] == pytest.approx(50.0 / 2.0)
    assert concurrent_users({"teacher": teacher, "student": student}, within_s=1.0)["value"] == pytest.approx(50.0 / 6.0)
    assert concurrent_users({"teacher": student, "student": levels((1, 1.0, 5.0))})["value"] == 0.0
    assert concurrent_users({"teacher": teacher, "student": {}})["value"] is None

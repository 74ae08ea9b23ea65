"""Costs: by the price table, or by the hour; what is not known stays unknown, all the way to the day it pays."""

from pathlib import Path

import pytest

from potstill.errors import SpecError
from potstill.report.cost import Measured, cost_sentence, reckon_cost
from potstill.spec import spec_from_dict

LOCAL = {"over_the_wire": False, "throughput": [{"concurrency": 1, "requests_per_s": 2.0}, {"concurrency": 8, "requests_per_s": 10.0}]}
WIRE = {"over_the_wire": True, "throughput": [{"concurrency": 4, "requests_per_s": 5.0}], "dollars": 0.5}
BY_TOKENS = {"model": "m", "base_url": "http://127.0.0.1:1/v1", "price": {"input_per_million": 2.0, "output_per_million": 10.0}}
BY_THE_HOUR = {"model": "m", "base_url": "http://127.0.0.1:1/v1", "price": {"per_gpu_hour": 9.0, "gpus": 2}}


def reckon(teacher=BY_TOKENS, *, teacher_timing=WIRE, usage=None, judge=None, compare=(), **costs):
    raw = {"name": "n", "task": {"type": "qa"}, "data": {"train": "t"}, "teacher": teacher, "student": {"model": "s"}, "costs": costs}
    spec = spec_from_dict(raw | {"evaluation": {"compare": list(compare)}}, Path("."))
    tokens = {"tokens_per_request": {"read": 500.0, "written": 100.0}}
    systems = ("teacher", "student", *(other.key for other in spec.evaluation.compare))
    evaluation = {"systems": {system: dict(tokens) for system in systems}}
    if judge is not None:
        evaluation["judge"] = {"dollars": judge}
    timings = {"teacher": teacher_timing, "student": LOCAL}
    spent = {"dollars": 9.0, "seconds": 1800.0} if usage is None else usage
    return reckon_cost(spec, Measured(evaluation, timings, {"generate": 1800.0, "train": 5400.0}, spent))


def test_a_price_by_tokens_is_that_of_the_answers_to_the_test_questions():
    assert reckon()["per_1000_requests"]["teacher"] == {"dollars": pytest.approx((500 * 2 + 100 * 10) / 1e6 * 1000), "how": "price table"}


def test_others_cost_what_their_own_price_says_and_what_has_none_is_unknown():
    cheap = {**BY_TOKENS, "name": "cheap", "price": {"input_per_million": 1.0, "output_per_million": 0.0}}
    found = reckon(compare=[cheap, {"run": "runs/other"}])["per_1000_requests"]
    assert found["cheap"] == {"dollars": pytest.approx(500 / 1e6 * 1000), "how": "price table"}
    assert found["other"] == {"dollars": None, "how": "unknown"}


def test_a_machine_by_the_hour_costs_what_its_best_throughput_makes_of_it():
    cost = reckon(BY_THE_HOUR, machine_per_hour=0.36)
    assert cost["per_1000_requests"] == {
        "teacher": {"dollars": pytest.approx(18.0 / (5.0 * 3600) * 1000), "how": "price per hour", "in_flight": 4},
        "student": {"dollars": pytest.approx(0.36 / (10.0 * 3600) * 1000), "how": "price per hour", "in_flight": 8},
    }


def test_a_machine_that_is_always_on_costs_a_day_s_price_for_a_day_s_requests():
    assert reckon(machine_per_hour=0.36, always_on=True, requests_per_day=1000)["per_1000_requests"]["student"]["dollars"] == pytest.approx(
        8.64
    )
    needs_two = 10.0 * 86_400 * 1.5
    dollars = reckon(machine_per_hour=0.36, always_on=True, requests_per_day=needs_two)["per_1000_requests"]["student"]["dollars"]
    assert dollars == pytest.approx(2 * 8.64 / needs_two * 1000)
    with pytest.raises(SpecError, match="give `machine_per_hour` and `requests_per_day`"):
        reckon(always_on=True)


def test_distillation_costs_what_was_asked_judged_and_the_machine_s_time():
    assert reckon(machine_per_hour=0.5, judge=0.25)["distillation"] == {
        "teacher_calls": pytest.approx(9.5),
        "judge_calls": 0.25,
        "machine": pytest.approx(1.0),
        "total": pytest.approx(10.75),
    }


def test_time_of_this_machine_that_a_local_teacher_was_paid_for_is_not_paid_twice():
    local = {"model": "smollm2", "price": {"per_gpu_hour": 1.0}}
    assert reckon(local, teacher_timing=LOCAL, machine_per_hour=1.0)["distillation"]["machine"] == pytest.approx(1.5)


def test_it_has_paid_for_itself_when_what_was_saved_is_what_it_cost():
    cost = reckon(machine_per_hour=0.36, requests_per_day=200)
    saved = cost["saving_per_1000"] * cost["break_even_requests"] / 1000
    assert saved >= cost["distillation"]["total"] > saved - cost["saving_per_1000"] / 1000
    assert cost["break_even_days"] == pytest.approx(cost["break_even_requests"] / 200)


def test_a_student_that_costs_no_less_never_pays():
    cost = reckon(machine_per_hour=360.0)
    assert cost["saving_per_1000"] < 0
    assert cost["break_even_requests"] is None
    assert "cost no less than its teacher's" in cost_sentence(cost)


@pytest.mark.parametrize("unpriced", [{"usage": {"dollars": None}, "machine_per_hour": 0.5}, {}])
def test_what_is_unknown_makes_the_total_unknown_and_not_smaller(unpriced):
    cost = reckon(**unpriced)
    assert cost["distillation"]["total"] is None
    assert cost["break_even_requests"] is None
    assert "not known" in cost_sentence(cost)


def test_without_a_price_an_answer_s_cost_is_unknown_and_nothing_is_said():
    local = {"model": "smollm2"}
    cost = reckon(local, teacher_timing=LOCAL)
    assert cost["per_1000_requests"] == {name: {"dollars": None, "how": "unknown"} for name in ("teacher", "student")}
    assert cost_sentence(cost) == ""
    recorded = reckon({"replay": "answers.jsonl"}, teacher_timing={"over_the_wire": False}, machine_per_hour=1.0)
    assert recorded["per_1000_requests"]["teacher"]["how"] == "unknown", "whoever gave recorded answers did so elsewhere"


def test_the_sentence_is_made_of_the_figures():
    said = cost_sentence(reckon(machine_per_hour=0.36, requests_per_day=200))
    assert said == (
        "The distillation cost $10.22 (teacher's answers $9.50, machine time $0.72); the student saves $1.99 per 1,000 requests, "
        "and that pays for it after 5,136 requests, 25.7 days at 200 a day."
    )

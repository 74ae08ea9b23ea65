"""Goals about quality, time, memory, money and users are judged together, each by what was found."""

from html import unescape

import pytest

from potstill.report.card import render_card
from potstill.report.goals import judge_goals
from potstill.report.page import render_html
from potstill.report.table import comparison_table, headline
from potstill.spec.sections import GoalsSpec

WISHES = {
    "scores": {"rouge_l": 0.9},
    "latency_reduction": 0.85,
    "memory_reduction": 0.95,
    "cost_reduction": {"at_least": 0.6, "margin": 0.1},
    "concurrent_users": 10,
}


def timing(seconds, memory, rate, samples=12):
    """A system of so many seconds an answer, bytes above the empty process, and requests a second, as fast with 8 at once as alone."""
    levels = [{"concurrency": n, "requests_per_s": rate * n, "p95_s": seconds} for n in (1, 8)]
    return {"latency_s": {"samples": [seconds] * samples}, "peak_above_empty_bytes": memory, "throughput": levels}


def judged(content, timings, dollars, wishes=WISHES):
    cost = {"per_1000_requests": {system: {"dollars": price} for system, price in zip(("teacher", "student"), dollars, strict=True)}}
    return judge_goals(GoalsSpec.model_validate(wishes), content["evaluation"], timings, cost)


def test_each_goal_is_judged_by_its_own_figure_and_those_about_quality_come_first(content):
    timings = {"teacher": timing(2.0, 1000, 0.5), "student": timing(0.1, 60, 5.0)}
    found = judged(content, timings, (1.0, 0.45))
    assert [(goal["goal"], goal["found"] and pytest.approx(goal["found"]), goal["verdict"]) for goal in found] == [
        ("rouge_l", 0.168, "fail"),
        ("latency_reduction", 0.95, "inconclusive"),
        ("memory_reduction", 0.94, "fail"),
        ("cost_reduction", 0.55, "pass"),
        ("concurrent_users", 10.0, "pass"),
    ]
    assert {goal["unit"] for goal in found} == {"score", "share", "times"}


@pytest.mark.parametrize(("answers", "seconds", "verdict"), [(100, 0.1, "pass"), (100, 1.9, "fail"), (9, 0.1, "inconclusive")])
def test_time_saved_is_judged_by_as_many_answers_as_were_on_the_clock(content, answers, seconds, verdict):
    timings = {"teacher": timing(2.0, 1, 1, answers), "student": timing(seconds, 1, 1, answers)}
    [goal] = judged(content, timings, (None, None), {"latency_reduction": 0.85})
    assert goal["verdict"] == verdict
    assert (goal["interval"] is None) == (answers < 10)


def test_what_nobody_measured_or_priced_is_inconclusive(content):
    wishes = {name: wish for name, wish in WISHES.items() if name != "scores"}
    for goal in judged(content, {}, (None, 0.1), wishes):
        assert (goal["verdict"], goal["found"]) == ("inconclusive", None)
        assert "was not measured" in goal["sentence"]


def test_all_verdicts_stand_in_headline_table_page_and_card(content):
    timings = {"teacher": timing(2.0, 1000, 0.5), "student": timing(0.1, 60, 5.0)}
    content["evaluation"]["goals"] = goals = judged(content, timings, (1.0, 0.45))
    assert headline(content).endswith("Goals: 2 pass, 2 fail, 1 inconclusive.")
    rows = [row for row in comparison_table(content).rows if row[0].startswith("goal: ")]
    assert [row[-1] for row in rows] == [goal["verdict"] for goal in goals]
    page, card = unescape(render_html(content, [], ([], {}))), render_card(content)
    for goal in goals:
        assert goal["sentence"] in page
        assert f"- {goal['sentence']}" in card

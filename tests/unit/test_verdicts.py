"""Verdicts follow the interval, and the rows that are said to decide do decide as often as is said."""

import numpy as np
import pytest

from potstill.records import Interval
from potstill.verdicts import Goal, figure_text, judge_goal, judge_quality, tally


def interval(low, high):
    return Interval(low, high, 0.95, 10_000)


def judged(found, low, high, *, wanted=0.92, margin=0.0, n=1_000):
    return judge_goal(Goal("retention", wanted, margin), found, interval(low, high), n)


@pytest.mark.parametrize(
    ("found", "low", "high", "verdict"),
    [
        (0.95, 0.93, 0.97, "pass"),
        (0.94, 0.92, 0.96, "pass"),
        (0.93, 0.91, 0.95, "inconclusive"),
        (0.91, 0.89, 0.93, "inconclusive"),
        (0.91, 0.90, 0.92, "inconclusive"),
        (0.88, 0.86, 0.90, "fail"),
    ],
)
def test_the_whole_interval_decides(found, low, high, verdict):
    assert judged(found, low, high).verdict == verdict


def test_within_the_margin_is_as_good_as_wanted():
    assert judged(0.91, 0.905, 0.915).verdict == "fail"
    assert judged(0.91, 0.905, 0.915, margin=0.02).verdict == "pass"
    assert judged(0.89, 0.885, 0.895, margin=0.02).verdict == "fail"


def test_needed_rows_shrink_the_reach_to_the_distance():
    assert judged(0.93, 0.91, 0.95).needed_n == 4_000  # reach 0.02, distance 0.01
    assert judged(0.90, 0.85, 0.94).needed_n == 4_000  # reach upwards 0.04, distance 0.02
    assert judged(0.92, 0.90, 0.94).needed_n is None
    assert judged(0.95, 0.93, 0.97).needed_n is None


def test_needed_rows_decide_one_time_in_two_and_twice_as_many_four_times_in_five():
    generator = np.random.default_rng(1)
    truth, n = 0.95, 300
    reach = 1.96 * np.sqrt(truth * (1 - truth) / n)
    needed = judged(truth, truth - reach, truth + reach, wanted=0.93, n=n).needed_n
    for rows, share in ((needed, 0.5), (2 * needed, 0.8)):
        found = generator.binomial(rows, truth, 4_000) / rows
        reaches = 1.96 * np.sqrt(found * (1 - found) / rows)
        assert np.mean(found - reaches >= 0.93) == pytest.approx(share, abs=0.05)


def test_all_right_on_a_dozen_rows_is_no_proof():
    """Twelve of twelve are right: so they would be once in 12 tests of a system that is right 8 times in 10."""
    goal = Goal("accuracy", 0.8, unit="score")
    few = judge_goal(goal, 1.0, interval(1.0, 1.0), 12)
    assert few.verdict == "inconclusive"
    assert few.needed_n == 19  # −ln 0.025 / 0.2
    assert judge_goal(goal, 1.0, interval(1.0, 1.0), 19).verdict == "pass"
    assert judge_goal(Goal("over_sft", 0.0), 0.0, interval(0.0, 0.0), 500).verdict == "inconclusive"
    assert judge_goal(Goal("over_sft", 0.0, 0.01), 0.0, interval(0.0, 0.0), 500).verdict == "pass"


def test_a_figure_that_is_no_sample_is_judged_by_itself():
    goal = Goal("memory_reduction", 0.95)
    assert judge_goal(goal, 0.96, None, None).verdict == "pass"
    assert judge_goal(goal, 0.94, None, None).verdict == "fail"


def test_what_was_not_measured_or_has_no_interval_decides_nothing():
    missing = judge_goal(Goal("cost_reduction", 0.6, title="cost saved"), None, None, None)
    assert (missing.verdict, missing.sentence) == ("inconclusive", "Cost saved was not measured, 60 % or more wanted: inconclusive.")
    few = judge_goal(Goal("retention", 0.9), 0.95, None, 8)
    assert few.verdict == "inconclusive"
    assert "8 test rows are too few for an interval" in few.sentence


def test_sentences_tell_figure_wish_and_rows():
    goal = Goal("retention", 0.92, 0.01, "what the student keeps of its teacher")
    assert judge_goal(goal, 0.925, interval(0.9012, 0.951), 1_000, "test questions").sentence == (
        "What the student keeps of its teacher is 92.5 % [90.1, 95.1], 92 % or more wanted, less 1 % of margin: inconclusive;"
        " about 2,500 test questions would decide it (so far 1,000)."
    )


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.925, "share", "92.5 %"),
        (0.92, "share", "92 %"),
        (-0.04, "share", "−4 %"),
        (0.8, "score", "0.800"),
        (0.8125, "score", "0.812"),
        (31.2, "score", "31.2"),
        (10, "times", "10×"),
        (-0.0001, "score", "0.000"),
    ],
)
def test_figures_are_written_in_their_unit(value, unit, text):
    assert figure_text(value, unit) == text


def scores(unit="row"):
    def score(value):
        return {"value": value, "n": 500, "interval": {"low": value - 0.01, "high": value + 0.01, "confidence": 0.95, "resamples": 100}}

    return {
        "primary": "accuracy",
        "scored": 500,
        "groups": 500 if unit == "row" else 50,
        "settings": {"unit": unit},
        "metrics": {"accuracy": {"title": "Accuracy"}},
        "systems": {"student": {"scores": {"accuracy": score(0.85)}}},
        "comparisons": {"accuracy": {"student": {"retention": score(0.93)}}},
        "agreement": {"scores": {"student": score(0.9)}},
    }


def test_goals_about_quality_find_their_figures():
    goals = [Goal("retention", 0.9, title="kept"), Goal("accuracy", 0.9), Goal("agreement", 0.9), Goal("gain", 0.1)]
    found = judge_quality(goals, scores())
    assert [(one["goal"], one["found"], one["verdict"]) for one in found] == [
        ("retention", 0.93, "pass"),
        ("accuracy", 0.85, "fail"),
        ("agreement", 0.9, "inconclusive"),
        ("gain", None, "inconclusive"),
    ]
    assert found[0]["sentence"].startswith("Kept in Accuracy is 93 %")
    assert tally(found) == {"pass": 1, "fail": 1, "inconclusive": 2}


def test_rows_that_go_together_are_counted_as_groups():
    [found] = judge_quality([Goal("retention", 0.925)], scores("group"))
    assert (found["verdict"], found["needed_n"]) == ("inconclusive", 200)
    assert "200 groups of test questions would decide it (so far 50)" in found["sentence"]


def test_goals_of_a_run_without_references_are_not_measured():
    bare = scores() | {"primary": None, "metrics": {}, "comparisons": {}, "systems": {"student": {"scores": {}}}, "agreement": None}
    found = judge_quality([Goal("retention", 0.9), Goal("accuracy", 0.9), Goal("agreement", 0.9)], bare)
    assert {one["verdict"] for one in found} == {"inconclusive"}

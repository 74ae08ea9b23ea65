import math
import re

import pytest

from potstill.report.charts.base import log_ticks
from potstill.report.charts.quality import (
    MOST_LABELS_NAMED,
    calibration_chart,
    confusion_chart,
    largest_confusions,
    scores_chart,
    slices_chart,
)
from potstill.report.charts.tradeoff import break_even_chart, frontier, latency_chart, pareto_chart, throughput_chart
from potstill.report.charts.training import MOST_POINTS, curve_chart, drops_chart, thinned

SYSTEMS = [("teacher", "teacher"), ("student", "student"), ("mine", "My <model>")]


def score(value, bounds=None):
    ends = None if bounds is None else {"low": bounds[0], "high": bounds[1]}
    return {"value": value, "n": 10, "interval": ends}


def test_scores_stand_in_the_table_as_in_the_picture():
    chart = scores_chart("Accuracy", {"teacher": score(0.5, (0.4, 0.62)), "mine": score(0.25), "student": score(None)}, SYSTEMS)
    assert chart.rows == (("teacher", "0.500", "[0.400, 0.620]", "10"), ("My <model>", "0.250", "–", "10"))
    assert "teacher: 0.500 [0.400, 0.620]" in chart.svg
    assert "My &lt;model&gt;: 0.250" in chart.svg


def test_colours_are_the_pages_own_so_that_one_drawing_suits_light_and_dark():
    chart = scores_chart("Accuracy", {"teacher": score(0.5, (0.4, 0.6)), "mine": score(0.2), "student": score(0.4)}, SYSTEMS)
    for colour in ("var(--teacher)", "var(--student)", "var(--extra-0)", "var(--ink)"):
        assert colour in chart.svg
    assert "#" not in chart.svg.replace('stroke="#ddd"', "").replace('stroke="#888"', "")


@pytest.mark.parametrize(
    "nothing",
    [
        lambda: scores_chart("x", {"teacher": score(None)}, SYSTEMS),
        lambda: slices_chart("label", [{"by": "label", "name": "a", "n": 3, "retention": None}], "x"),
        lambda: calibration_chart({}, SYSTEMS),
        lambda: latency_chart({"student": {"p50_s": 1.0}}, SYSTEMS),
        lambda: throughput_chart({"student": {"p50_s": 1.0}}, SYSTEMS),
        lambda: pareto_chart("x", "x", "x", "s", [{"key": "student", "system": "student", "x": 1, "value": 1, "interval": None}]),
        lambda: curve_chart("x", [(1, math.nan), (2, 1.0)], marks=True),
        lambda: drops_chart({"refusal": 0}),
    ],
)
def test_nothing_is_drawn_where_nothing_is_known(nothing):
    assert nothing() is None


def test_no_break_even_is_drawn_where_a_price_is_missing_or_none_is_reached():
    prices = {"teacher": {"dollars": 2.0}, "student": {"dollars": 1.0}}
    cost = {"per_1000_requests": prices, "distillation": {"total": 10.0}, "break_even_requests": 10_000}
    assert [row[1:] for row in break_even_chart(cost).rows if row[1] == "10,000"] == [("10,000", "$20.00")] * 2
    assert break_even_chart(cost | {"break_even_requests": None}) is None
    assert break_even_chart(cost | {"per_1000_requests": {**prices, "teacher": {"dollars": None}}}) is None


def point(x, value):
    return {"x": x, "value": value}


def test_the_frontier_holds_the_points_that_no_other_beats_in_both():
    points = [point(3, 0.9), point(1, 0.5), point(2, 0.4), point(4, 0.9), point(1, 0.3)]
    best = frontier(points)
    assert best == [point(1, 0.5), point(3, 0.9)]
    for one in points:
        beaten = any(other["x"] <= one["x"] and other["value"] >= one["value"] and other != one for other in points)
        assert (one in best) == (not beaten)


@pytest.mark.parametrize(
    ("low", "high", "ticks"), [(0.03, 0.4, [0.05, 0.1, 0.2]), (0.5, 800, [1, 10, 100]), (90, 1100, [100, 200, 500, 1000])]
)
def test_logarithmic_axes_have_few_and_round_marks(low, high, ticks):
    assert log_ticks(low, high) == pytest.approx(ticks)


def test_slices_that_kept_least_come_first_and_all_stand_in_the_table():
    slices = [
        {"by": "label", "name": f"label {place}", "n": 5, "retention": {"value": 0.5 + place / 100, "interval": None}}
        for place in range(40)
    ]
    chart = slices_chart("label", slices[::-1], "Accuracy")
    assert chart.title == "Accuracy kept, by label, the 24 lowest of 40"
    assert [row[0] for row in chart.rows] == [one["name"] for one in slices]
    assert "label 23" in chart.svg
    assert "label 24" not in chart.svg


def test_slices_whose_names_begin_alike_stay_apart():
    names = ["a long name of a label that goes on, one", "a long name of a label that goes on, two"]
    slices = [{"by": "label", "name": name, "n": 5, "retention": {"value": 0.5, "interval": None}} for name in names]
    places = re.findall(r'aria-roledescription="point" transform="translate\(([\d.,]+)\)"', slices_chart("label", slices, "x").svg)
    assert len(set(places)) == 2


def confusion(size):
    counts = [[10 if row == column else int((row, column) == (0, 1)) for column in range(size)] for row in range(size)]
    return {"labels": [f"l{place}" for place in range(size)], "counts": counts, "unparsable": [0] * (size - 1) + [3]}


def test_confusions_have_counts_and_a_column_for_answers_that_could_not_be_read():
    chart = confusion_chart("student", confusion(3))
    assert chart.columns == ("reference", "l0", "l1", "l2", "(no answer)")
    assert chart.rows[2] == ("l2", "0", "0", "10", "3")
    assert "l2 answered as (no answer): 3 of 13" in chart.svg


def test_with_many_labels_the_table_holds_the_largest_confusions():
    many = confusion(MOST_LABELS_NAMED + 1)
    chart = confusion_chart("student", many)
    assert chart.opened
    assert chart.rows == tuple(largest_confusions(many)) == (("l16", "(no answer)", "3"), ("l0", "l1", "1"))


def test_latency_is_drawn_from_single_times():
    times = {"latency_s": {"p50": 0.5, "p95": 0.95, "p99": 0.99, "samples": [place / 100 for place in range(100, 0, -1)]}}
    chart = latency_chart({"student": times}, SYSTEMS)
    assert chart.rows == (("student", "500 ms", "950 ms", "990 ms", "100"),)
    assert "student: 50 % within 500 ms" in chart.svg
    assert "student: 95 % within 950 ms" in chart.svg


def test_long_curves_are_means_of_neighbours():
    points = [(step, float(step % 2)) for step in range(1, 1_001)]
    thin = thinned(points)
    assert len(thin) <= MOST_POINTS
    assert thin[-1][0] == 1_000
    assert sum(value for _, value in thin) / len(thin) == pytest.approx(0.5)
    assert thinned(points[:10]) == points[:10]


def test_the_step_whose_weights_were_kept_is_marked():
    series = [(10, 0.2), (20, 0.4), (30, 0.3)]
    assert "step 20: 0.4, the weights that were kept" in curve_chart("x", series, marks=True, chosen=20).svg
    assert "kept" not in curve_chart("x", series, marks=True, chosen=None).svg


def test_curves_leave_out_what_is_not_finite():
    chart = curve_chart("x", [(0, 3.0), (5, math.nan), (10, 1.0)], marks=True)
    assert chart.rows == (("0", "3"), ("10", "1"))
    assert chart.summary == "x over 10 steps, between 1 and 3"

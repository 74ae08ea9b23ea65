"""What the evaluation writes is what the report draws: a label set with tags and probabilities, from answers to page."""

import re
from dataclasses import replace
from html import unescape

from evaluated_runs import LABELS, answers, evaluated, questions

from potstill.pipeline.evaluated import read_evaluated
from potstill.report.page import render_html
from potstill.report.table import comparison_table


def test_slices_confusions_calibration_and_goals_of_an_evaluation_stand_in_the_page(tmp_path):
    asked = [replace(question, tags=("a" if place % 3 else "b",)) for place, question in enumerate(questions(60))]
    given = {"teacher": answers(asked, [3]), "baseline": [None] * 60, "student": answers(asked, [1, 2, 3, 9])}
    shares = {"student": dict(zip(LABELS, (0.8, 0.2), strict=True))}
    goals = {"retention": 0.9, "scores": {"accuracy": 0.99}, "memory_reduction": 0.2}
    folder = evaluated(tmp_path / "run", asked, given, shares=shares, goals=goals)
    [run] = read_evaluated([folder])
    page = render_html(run.report, [], ([], {}))
    assert {"goals", "slices", "confusions", "calibration", "failures"} <= set(re.findall(r'<h2 id="(\w+)"', page))
    for text in ("mean over labels", "mean over tags", *(goal["sentence"] for goal in run.evaluation["goals"])):
        assert text in unescape(page)
    verdicts = {row[0]: row[-1] for row in comparison_table(run.report).rows if row[0].startswith("goal")}
    assert verdicts == {"goal: retention ≥ 90 %": "inconclusive", "goal: accuracy ≥ 0.990": "fail", "goal: memory reduction ≥ 20 %": "fail"}

"""How good: scores with their intervals, retention by slice, confusion matrices, calibration, the judge's verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from potstill.report.charts.base import Chart, Spec, by_system, draw, nominal, quantity, values, without_legend
from potstill.report.table import bracket_text
from potstill.report.units import MISSING, percent_text, score_text

Systems = Sequence[tuple[str, str]]
"""(key, title) in the order of the report."""

_BARE = {"domain": False, "ticks": False}
"""An axis of names needs no line."""

MOST_SLICES = 24
MOST_LABELS_NAMED = 16
"""Labels beyond which a confusion matrix has no room for names and counts."""
MOST_CONFUSIONS = 10


def scores_chart(title: str, scores: Mapping[str, dict[str, Any]], systems: Systems) -> Chart | None:
    """Each system's score `{"value", "n", "interval"}` with its interval; None where no system has a value."""
    shown = [(key, name, scores[key]) for key, name in systems if scores.get(key, {"value": None})["value"] is not None]
    if not shown:
        return None
    data = [{"system": name, "label": _scored(score), "value": score["value"], **_ends(score["interval"])} for _, name, score in shown]
    looks = without_legend(by_system([(key, name) for key, name, _ in shown]))
    y = nominal("system", title=None, axis={**_BARE, "offset": 8, "labelColor": "var(--ink)", "labelFontSize": 12.5})
    spec = {
        "height": 46 * len(shown) + 26,
        "data": values(data),
        "encoding": {"y": y, "color": looks["color"]},
        "layer": [
            _interval_rule("x"),
            {
                "mark": {"type": "point", "filled": True, "size": 110, "opacity": 1},
                "encoding": {
                    "x": quantity("value", scale={"zero": True}),
                    "shape": looks["shape"],
                    "description": {"field": "label", "type": "nominal"},
                },
            },
            {
                "mark": {"type": "text", "dy": -13, "fontSize": 11.5, "aria": False},
                "encoding": {"x": quantity("value"), "text": {"field": "short", "type": "nominal"}, "color": {"value": "var(--ink)"}},
            },
        ],
    }
    for row, (_, _, score) in zip(data, shown, strict=True):
        row["short"] = score_text(score["value"])
        row["label"] = f"{row['system']}: {row['label']}"
    rows = [
        (name, score_text(score["value"]), bracket_text(score["interval"]).strip() or MISSING, f"{score['n']:,}")
        for _, name, score in shown
    ]
    summary = f"{title}, a point for each system with its interval"
    return draw(title, summary, spec, ("system", "value", "interval", "n"), rows)


def slices_chart(by: str, slices: Sequence[dict[str, Any]], metric: str) -> Chart | None:
    """What the student kept of the teacher's metric in each slice of one kind; the lowest first, `MOST_SLICES` of them at most."""
    known = [one for one in slices if one.get("retention") and one["retention"]["value"] is not None]
    if not known:
        return None
    worst = sorted(known, key=lambda one: one["retention"]["value"])[:MOST_SLICES]
    data = [
        {
            "name": f"{one['name']} (n = {one['n']:,})",
            "value": one["retention"]["value"],
            "label": f"{one['name']}: {_kept(one)}, n = {one['n']:,}",
            **_ends(one["retention"]["interval"]),
        }
        for one in worst
    ]
    spec = {
        "height": {"step": 24},
        "layer": [
            {
                "data": values([{"all": 1.0}]),
                "mark": {"type": "rule", "strokeDash": [4, 3], "color": "var(--teacher)", "aria": False},
                "encoding": {"x": quantity("all")},
            },
            {
                "data": values(data),
                "encoding": {"y": nominal("name", title=None, axis={**_BARE, "labelLimit": 190})},
                "layer": [
                    _interval_rule("x", color="var(--student)"),
                    {
                        "mark": {"type": "point", "filled": True, "size": 80, "color": "var(--student)", "opacity": 1},
                        "encoding": {
                            "x": quantity("value", None, axis={"format": ".0%"}, scale={"zero": False}),
                            "description": {"field": "label", "type": "nominal"},
                        },
                    },
                ],
            },
        ],
    }
    more = f", the {len(worst)} lowest of {len(known)}" if len(known) > len(worst) else ""
    title = f"{metric} kept, by {by}{more}"
    rows = [(one["name"], f"{one['n']:,}", _kept(one)) for one in sorted(known, key=lambda one: one["retention"]["value"])]
    return draw(title, f"{title}; the dashed line is the teacher", spec, (by, "n", "kept"), rows)


def confusion_chart(name: str, confusion: dict[str, Any]) -> Chart:
    """Counts of reference label against answered label, those without an answer in a column of their own; darker is a greater share.

    Shares are of the reference label's rows. Beyond `MOST_LABELS_NAMED` labels names and counts are left to the table, which then holds
    the largest confusions.
    """
    labels, counts, missing = confusion["labels"], confusion["counts"], confusion["unparsable"]
    answers = [*labels, *([NO_ANSWER] if any(missing) else [])]
    cells = []
    for label, row, none in zip(labels, counts, missing, strict=True):
        total = sum(row) + none
        for answer, count in zip(answers, [*row, none], strict=False):
            if count:
                text = f"{label} answered as {answer}: {count:,} of {total:,}"
                cells.append({"reference": label, "answer": answer, "count": count, "share": count / total, "label": text})
    named = len(answers) <= MOST_LABELS_NAMED
    axis = {**_BARE, "labelLimit": 110, "orient": "top", "labelAngle": -40, **({} if named else {"labels": False})}
    side = {**_BARE, "labelLimit": 110, **({} if named else {"labels": False})}
    layers: list[Spec] = [
        {
            "mark": {"type": "rect", "color": "var(--teacher)", "stroke": "var(--line)", "strokeWidth": 0.5 if named else 0},
            "encoding": {
                "fillOpacity": {**quantity("share"), "scale": {"domain": [0, 1], "range": [0.12, 0.62]}, "legend": None},
                "description": {"field": "label", "type": "nominal"},
            },
        }
    ]
    if named:
        layers.append(
            {
                "mark": {"type": "text", "fontSize": 11, "color": "var(--ink)", "aria": False},
                "encoding": {"text": {"field": "count", "type": "quantitative"}},
            }
        )
    spec = {
        "height": 330 if named else 360,
        "data": values(cells),
        "encoding": {
            "x": nominal("answer", title="answered", axis=axis, scale={"domain": answers}),
            "y": nominal("reference", title="reference", axis=side, scale={"domain": list(labels)}),
        },
        "layer": layers,
    }
    summary = f"{name}: reference labels in rows, answers in columns"
    if not named:
        chart = draw(name, summary, spec, ("reference", "answered", "rows"), largest_confusions(confusion))
        return replace(chart, words=2, table="The largest confusions", opened=True)
    table = [
        (label, *map(str, row), *([str(none)] if any(missing) else [])) for label, row, none in zip(labels, counts, missing, strict=True)
    ]
    return draw(name, summary, spec, ("reference", *answers), table)


NO_ANSWER = "(no answer)"


def largest_confusions(confusion: dict[str, Any]) -> list[tuple[str, str, str]]:
    """(reference, answered, rows) of the most frequent mistakes."""
    labels = confusion["labels"]
    pairs = [
        (count, label, labels[place])
        for label, row in zip(labels, confusion["counts"], strict=True)
        for place, count in enumerate(row)
        if count and labels[place] != label
    ]
    pairs += [(none, label, NO_ANSWER) for label, none in zip(labels, confusion["unparsable"], strict=True) if none]
    return [(label, answer, f"{count:,}") for count, label, answer in sorted(pairs, key=lambda pair: -pair[0])[:MOST_CONFUSIONS]]


def calibration_chart(calibration: Mapping[str, dict[str, Any]], systems: Systems) -> Chart | None:
    """Accuracy against stated confidence: on the diagonal a system is right as often as it says."""
    shown = [(key, title) for key, title in systems if key in calibration]
    data, rows = [], []
    for key, title in shown:
        ece = calibration[key]["ece"]
        for found in calibration[key]["bins"]:
            if not found["n"]:
                continue
            label = f"{title}: says {percent_text(found['confidence'])}, right {percent_text(found['accuracy'])}, n = {found['n']:,}"
            data.append(
                {"system": title, "confidence": found["confidence"], "accuracy": found["accuracy"], "n": found["n"], "label": label}
            )
            rows.append((title, percent_text(found["confidence"]), percent_text(found["accuracy"]), f"{found['n']:,}", _scored(ece)))
    if not data:
        return None
    looks = by_system(shown)
    axis = {"format": ".0%"}
    spec = {
        "height": 320,
        "layer": [
            {
                "data": values([{"confidence": 0, "accuracy": 0}, {"confidence": 1, "accuracy": 1}]),
                "mark": {"type": "line", "strokeDash": [4, 3], "color": "var(--soft)", "strokeWidth": 1, "aria": False},
                "encoding": {"x": quantity("confidence"), "y": quantity("accuracy")},
            },
            {
                "data": values(data),
                "encoding": {
                    "x": quantity("confidence", "stated confidence", axis=axis),
                    "y": quantity("accuracy", "share that is right", axis=axis),
                    "color": looks["color"],
                },
                "layer": [
                    {"mark": {"type": "line", "strokeWidth": 1.5, "aria": False}},
                    {
                        "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                        "encoding": {"shape": looks["shape"], "description": {"field": "label", "type": "nominal"}},
                    },
                ],
            },
        ],
    }
    errors = ", ".join(f"{title} {_scored(calibration[key]['ece'])}" for key, title in shown)
    title = "Right answers, by stated confidence"
    summary = f"Share of right answers against stated confidence; expected calibration error: {errors}"
    return draw(title, summary, spec, ("system", "confidence", "right", "n", "expected calibration error"), rows)


_OUTCOMES = (("wins", "student"), ("ties", "tie"), ("losses", "teacher"), ("abstained", "no verdict"))


def judge_chart(judge: dict[str, Any]) -> Chart:
    """How many pairs went to the student, to the teacher, to neither, and how many the judge would not decide."""
    names = [name for _, name in _OUTCOMES]
    data = [
        {"outcome": name, "pairs": judge[key], "order": place, "label": f"{name}: {judge[key]:,}"}
        for place, (key, name) in enumerate(_OUTCOMES)
    ]
    colors = ["var(--student)", "var(--baseline)", "var(--teacher)", "var(--line)"]
    color = nominal("outcome", scale={"domain": names, "range": colors}, legend={})
    order = {"field": "order", "type": "quantitative"}
    spec = {
        "height": 110,
        "data": values(data),
        "mark": {"type": "bar", "size": 30},
        "encoding": {
            "x": quantity("pairs", None, stack="zero", axis=None),
            "color": color,
            "order": order,
            "description": {"field": "label", "type": "nominal"},
        },
    }
    rows = [(name, f"{judge[key]:,}") for key, name in _OUTCOMES]
    return draw(
        "Preferred by the judge", "Pairs of student's and teacher's answer by the judge's verdict", spec, ("preferred", "pairs"), rows
    )


def _interval_rule(channel: str, **mark: Any) -> Spec:
    ends = {channel: quantity("low"), f"{channel}2": {"field": "high"}}
    return {"mark": {"type": "rule", "strokeWidth": 2.5, "strokeCap": "round", "opacity": 0.55, "aria": False, **mark}, "encoding": ends}


def _ends(interval: dict[str, Any] | None) -> dict[str, float]:
    return {} if interval is None else {"low": interval["low"], "high": interval["high"]}


def _scored(score: dict[str, Any]) -> str:
    return MISSING if score["value"] is None else f"{score_text(score['value'])}{bracket_text(score['interval'])}"


def _kept(one: dict[str, Any]) -> str:
    return f"{percent_text(one['retention']['value'])}{bracket_text(one['retention']['interval'], 100)}"

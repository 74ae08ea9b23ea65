"""The comparison table: teacher, baseline, student, and what the student kept and saved. One source for terminal, HTML and card."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from potstill.report.cost import cost_sentence
from potstill.report.trust import seal_sentence
from potstill.report.units import (
    MISSING,
    bytes_text,
    change_text,
    count_text,
    dollars_text,
    duration_text,
    percent_text,
    score_text,
    signed,
    speed_text,
)
from potstill.verdicts import figure_text, tally

VERSUS = "student vs teacher"
NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Table:
    """Strings, ready to be drawn: column names (the first is empty), rows as wide as those, and a line that says how it was measured."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str


def comparison_table(report: dict[str, Any]) -> Table:
    """The table of `report.json`'s content."""
    systems = tuple(report["evaluation"]["systems"])
    rows = [*_metric_rows(report, systems), *_agreement_rows(report, systems), *_count_rows(report, systems)]
    rows += [_measured_row(report, systems, measure) for measure in _MEASURES if measure.always or _is_known(report, systems, measure)]
    rows += _cost_rows(report, systems)
    rows += [_goal_row(goal, systems) for goal in report["evaluation"].get("goals", ())]
    return Table(("", *systems, VERSUS), tuple(rows), _caption(report))


def table_text(report: dict[str, Any]) -> str:
    """The comparison in plain text, and what it cost, for logs and files."""
    cost = _cost_text(report)
    return plain_text(comparison_table(report)) + (f"\n{cost}" if cost else "")


def print_table(report: dict[str, Any]) -> None:
    """Show the comparison in the terminal, and what it cost."""
    show_table(comparison_table(report), bold=("student", VERSUS))
    if cost := _cost_text(report):
        print(cost, flush=True)


def _cost_text(report: dict[str, Any]) -> str:
    return cost_sentence(report["cost"]) if "cost" in report else ""


def plain_text(table: Table) -> str:
    """A table in plain text, columns aligned."""
    lines = [table.columns, *table.rows]
    widths = [max(len(line[index]) for line in lines) for index in range(len(table.columns))]
    drawn = ["  ".join(_pad(cell, widths[index], index) for index, cell in enumerate(line)).rstrip() for line in lines]
    return "\n".join([*drawn, "", table.caption])


def show_table(table: Table, bold: Collection[str] = ()) -> None:
    """Show a table in the terminal, these columns in bold: with rules and colour for people, plain where the output is a pipe."""
    if not sys.stdout.isatty():
        print(plain_text(table), flush=True)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=box.SIMPLE_HEAD, caption=Text(table.caption), caption_justify="left", caption_style="dim")
    for index, name in enumerate(table.columns):
        drawn.add_column(name, justify="left" if index == 0 else "right", style="bold" if name in bold else "")
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in row))
    Console().print(drawn)


def headline(report: dict[str, Any]) -> str:
    """One sentence, computed from the figures: what was kept, how small, how fast."""
    parts = [_quality(report)]
    teacher, student = measured(report, "teacher"), measured(report, "student")
    if teacher.get("parameters") and student.get("parameters"):
        parts.append(f"with {percent_text(student['parameters'] / teacher['parameters'])} of the teacher's parameters")
    if teacher.get("p50_s") and student.get("p50_s"):
        change = student["p50_s"] / teacher["p50_s"] - 1
        time = "less time" if change < 0 else "more time"
        wire = " than the teacher's over the wire" if teacher.get("where") == OVER_THE_WIRE else ""
        parts.append(f"and its median answer takes {percent_text(abs(change))} {time}{wire}")
    sentence = ", ".join(part for part in parts if part)
    return sentence[:1].upper() + sentence[1:] + "." + _goals_note(report)


def measured(report: dict[str, Any], system: str) -> dict[str, Any]:
    """Sizes and timings of one system, with the most `requests_per_s` at any level and how many were `in_flight` then.

    `first_token_s` is the median. Empty where the system was not among those that were measured.
    """
    timing = report["timings"]["systems"].get(system, {})
    found = {**report["evaluation"]["sizes"].get(system, {}), **timing}
    if "first_token_s" in timing:
        found["first_token_s"] = timing["first_token_s"]["p50"]
    if timing.get("throughput"):
        best = max(timing["throughput"], key=lambda level: float(level["requests_per_s"]))
        found |= {"requests_per_s": best["requests_per_s"], "in_flight": best["concurrency"]}
    return found


def kept_text(retention: dict[str, Any] | None) -> str:
    """`kept 84 % [78, 91]`; without brackets where there is no interval, a dash where there is no ratio."""
    if retention is None or retention["value"] is None:
        return MISSING
    return f"kept {percent_text(retention['value'])}{bracket_text(retention['interval'], 100)}"


def difference_text(difference: dict[str, Any] | None) -> str:
    """`+0.012 [−0.003, 0.027]`, signed; a dash where there is none."""
    if difference is None or difference["value"] is None:
        return MISSING
    return f"{'+' if difference['value'] > 0 else ''}{score_text(difference['value'])}{bracket_text(difference['interval'])}"


def bracket_text(interval: dict[str, Any] | None, scale: float = 1) -> str:
    """` [0.141, 0.172]`, with `scale` 100 ` [78, 91]`; empty where there is none."""
    if interval is None:
        return ""
    low, high = interval["low"] * scale, interval["high"] * scale
    return f" [{_bound(low, scale)}, {_bound(high, scale)}]"


OVER_THE_WIRE = "over the wire"


@dataclass(frozen=True, slots=True)
class _Measure:
    title: str
    key: str
    text: Callable[[float], str]
    versus: Callable[[float, float], str] = change_text
    always: bool = True
    """Whether it has a row also where it was measured of no system."""


def _rate_text(rate: float) -> str:
    return f"{rate:.1f}" if rate < 100 else f"{rate:.0f}"


def _throughput_text(rate: float) -> str:
    return f"{rate:.3g}" if rate < 100 else f"{rate:,.0f}"


_MEASURES = (
    _Measure("latency p50", "p50_s", duration_text),
    _Measure("latency p95", "p95_s", duration_text),
    _Measure("time to first token", "first_token_s", duration_text),
    _Measure("cold load", "load_s", duration_text, always=False),
    _Measure("tokens per answer", "tokens_per_answer", _rate_text),
    _Measure("tokens/s after the first", "tokens_per_s", _rate_text, speed_text),
    _Measure("parameters", "parameters", count_text),
    _Measure("weights in memory", "weights_bytes", bytes_text),
    _Measure("memory while answering", "peak_above_empty_bytes", bytes_text, always=False),
    _Measure("accelerator's memory", "peak_gpu_bytes", bytes_text, always=False),
    _Measure("disk", "disk_bytes", bytes_text),
    _Measure("most requests/s", "requests_per_s", _throughput_text, speed_text, always=False),
    _Measure("joules per request", "energy_joules_per_request", _throughput_text),
)


def _metric_rows(report: dict[str, Any], systems: tuple[str, ...]) -> list[tuple[str, ...]]:
    evaluation, rows = report["evaluation"], []
    for name, metric in evaluation["metrics"].items():
        cells = [_score_cell(evaluation["systems"][system]["scores"].get(name)) for system in systems]
        retention = evaluation["comparisons"].get(name, {}).get("student", {}).get("retention")
        rows.append((metric["title"], *cells, kept_text(retention)))
        rows += _lead_row(evaluation["comparisons"].get(name, {}).get("student", {}), systems)
    return rows


def _lead_row(student: dict[str, Any], systems: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The student's score less that of each other system that the spec compares with, under the score; only where there is one."""
    leads = [None if system == "sft" else student.get(f"over_{system}") for system in systems]
    if not any(leads):
        return []
    return [("  student less this one", *("" if lead is None else difference_text(lead) for lead in leads), "")]


def _agreement_rows(report: dict[str, Any], systems: tuple[str, ...]) -> list[tuple[str, ...]]:
    agreement = report["evaluation"]["agreement"]
    if agreement is None:
        return []
    cells = [_score_cell(agreement["scores"].get(system)) for system in systems]
    return [(f"agreement with teacher ({agreement['title']})", *cells, MISSING)]


def _count_rows(report: dict[str, Any], systems: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Only what happened is worth a row."""
    found = report["evaluation"]["systems"]
    titles = {
        "unparsable": "unparsable answers (wrong)",
        "no_room": "of those, no room for the prompt",
        "truncated": "answers cut at the token limit",
        "failed": "failed calls (not scored)",
    }
    return [
        (title, *(str(found[system][key]) for system in systems), MISSING)
        for key, title in titles.items()
        if any(found[system][key] for system in systems)
    ]


def _goal_row(goal: dict[str, Any], systems: tuple[str, ...]) -> tuple[str, ...]:
    """A goal and its verdict, the figure that it was made from in the student's column."""
    title = f"goal: {goal['goal'].replace('_', ' ')} ≥ {figure_text(goal['wanted'], goal['unit'])}"
    if goal["margin"] is not None:
        title += f" − {figure_text(goal['margin'], goal['unit'])}"
    found = MISSING if goal["found"] is None else figure_text(goal["found"], goal["unit"])
    return (title, *(found if system == "student" else "" for system in systems), goal["verdict"])


def _goals_note(report: dict[str, Any]) -> str:
    """` Goals: 2 pass, 1 fail.`; empty where there are none."""
    counts = tally(report["evaluation"].get("goals", ()))
    return f" Goals: {', '.join(f'{count} {outcome}' for outcome, count in counts.items())}." if counts else ""


def _measured_row(report: dict[str, Any], systems: tuple[str, ...], measure: _Measure) -> tuple[str, ...]:
    cells = []
    for system in systems:
        found = measured(report, system)
        value = found.get(measure.key)
        cells.append(NOT_MEASURED if value is None else measure.text(value) + _remark(found, measure.key))
    student, teacher = measured(report, "student"), measured(report, "teacher")
    new, old = student.get(measure.key), teacher.get(measure.key)
    if new is None or old is None or not _same_kind(student, teacher, measure.key):
        return (measure.title, *cells, MISSING)
    return (measure.title, *cells, measure.versus(new, old))


def _is_known(report: dict[str, Any], systems: tuple[str, ...], measure: _Measure) -> bool:
    return any(measured(report, system).get(measure.key) is not None for system in systems)


def _cost_rows(report: dict[str, Any], systems: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Only where some price is known."""
    each = report.get("cost", {}).get("per_1000_requests", {})
    dollars = {system: each.get(system, {}).get("dollars") for system in systems}
    if all(found is None for found in dollars.values()):
        return []
    cells = ["unknown" if found is None else dollars_text(found) for found in dollars.values()]
    new, old = dollars.get("student"), dollars.get("teacher")
    return [("dollars per 1,000 requests", *cells, MISSING if new is None or old is None else change_text(new, old))]


def _remark(measured: dict[str, Any], key: str) -> str:
    """What a figure needs to be read aright: how a time was taken, in which numbers a file holds its weights."""
    if key == "disk_bytes" and measured.get("storage"):
        shipped = measured.get("shipped_bytes")
        return f" ({measured['storage']}{f'; {bytes_text(shipped)} as published' if shipped else ''})"
    if key == "requests_per_s":
        return f" ({measured['in_flight']} at once{', over the wire' if measured.get('where') == OVER_THE_WIRE else ''})"
    remarks = [OVER_THE_WIRE] if key.endswith("_s") and measured.get("where") == OVER_THE_WIRE else []
    if key == "tokens_per_s" and "first_token_s" not in measured:
        remarks.append("whole calls")
    return f" ({', '.join(remarks)})" if remarks else ""


def _same_kind(student: dict[str, Any], teacher: dict[str, Any], key: str) -> bool:
    """Whether two systems' figures measure the same: rates of writing alone or of whole calls, files of the same numbers."""
    if key == "disk_bytes":
        return bool(student.get("storage") == teacher.get("storage"))
    return key != "tokens_per_s" or ("first_token_s" in student) == ("first_token_s" in teacher)


def _quality(report: dict[str, Any]) -> str:
    evaluation = report["evaluation"]
    primary = evaluation["primary"]
    student = evaluation["systems"].get("student")
    if student is None:
        return "the student was not measured"
    if primary is None:
        agreement = evaluation["agreement"]
        return f"the student's agreement with its teacher is {_with_interval(agreement['scores']['student'])} ({agreement['title']})"
    title = evaluation["metrics"][primary]["title"]
    retention = evaluation["comparisons"][primary]["student"].get("retention")
    if retention is not None and retention["value"] is not None:
        return f"the student {kept_text(retention)} of its teacher's {title}"
    return f"the student scores {_with_interval(student['scores'][primary])} on {title}"


def _caption(report: dict[str, Any]) -> str:
    evaluation = report["evaluation"]
    rows = f"{evaluation['rows']} test rows"
    if evaluation["questions"] != evaluation["rows"]:
        rows += f" ({evaluation['questions']} questions)"
    if evaluation["scored"] != evaluation["questions"]:
        rows += f", {evaluation['scored']} of the {evaluation['questions']} scored"
    answers = {found["n"] for found in report["timings"]["systems"].values() if "n" in found}
    latency = [f"latency at batch 1, n = {', '.join(map(str, sorted(answers)))}"] if answers else []
    sealed = seal_sentence(report)
    told = "; ".join([f"{rows}, greedy answers", _intervals_note(evaluation), *_undefined_notes(evaluation), *latency])
    return told if sealed is None else f"{told}. {sealed.rstrip('.')}"


def _intervals_note(evaluation: dict[str, Any]) -> str:
    settings, units = evaluation["settings"], evaluation["groups"]
    unit = {"row": "rows", "group": f"{units} groups of rows"}[settings["unit"]]
    if units < settings["fewest_units"]:
        few = f"{units} {'groups of ' if settings['unit'] == 'group' else ''}rows"
        return f"no intervals: {few} are too few ({settings['fewest_units']} at least)"
    note = (
        f"[ ] {percent_text(settings['confidence'])} intervals: paired bootstrap of {unit}, {settings['resamples']:,} resamples,"
        f" seed {evaluation['seed']}"
    )
    return note if units >= settings["few_units"] else f"{note}; with fewer than {settings['few_units']} of them these are rough"


def _undefined_notes(evaluation: dict[str, Any]) -> list[str]:
    """Why a ratio that is shown has no interval."""
    notes = []
    for name, systems in evaluation["comparisons"].items():
        retention = systems.get("student", {}).get("retention")
        if retention is not None and retention["value"] is not None and retention["interval"] is None and retention["undefined"]:
            title = evaluation["metrics"][name]["title"]
            notes.append(
                f"no interval for what was kept of {title}: the teacher scores 0 in {percent_text(retention['undefined'])} of resamples"
            )
    return notes


def _score_cell(score: dict[str, Any] | None) -> str:
    return MISSING if score is None or score["value"] is None else score_text(score["value"])


def _with_interval(score: dict[str, Any]) -> str:
    return _score_cell(score) + bracket_text(score["interval"])


def _bound(value: float, scale: float) -> str:
    return signed(f"{value:.0f}") if scale == 100 else score_text(value)


def _pad(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)

"""What an ablation found, as a table, and what to make of it in a sentence a gate."""

from __future__ import annotations

from typing import Any

from potstill.report.table import Table
from potstill.report.units import percent_text, signed

COLUMNS = ("gate", "dropped", "on", "off", "random", "on − off", "on − random")
_VERSUS = {"on_minus_off": "without it", "on_minus_random": "with as many rows dropped at random"}


def ablation_table(found: dict[str, Any]) -> Table:
    """The table of `ablation.json`'s content."""
    rows = [_row(name, gate, found) for name, gate in found["gates"].items()]
    return Table(COLUMNS, tuple(rows), _caption(found))


def conclusions(found: dict[str, Any]) -> list[str]:
    """What each gate does for the student, and which gates keep nothing out."""
    lines = [_conclusion(name, key, gate[key]) for name, gate in found["gates"].items() for key in _VERSUS]
    lines += [
        f"{name}: {gate['unanswered']:,} rows that it stopped would need further answers, and are in no arm"
        for name, gate in found["gates"].items()
        if gate["unanswered"]
    ]
    if found["without_effect"]:
        lines.append(f"no row is kept out by {', '.join(found['without_effect'])} alone")
    return lines


def _row(name: str, gate: dict[str, Any], found: dict[str, Any]) -> tuple[str, ...]:
    digits = 1 if found["metric"]["unit"] == "points" else 3
    shortened = f" + {gate['shortened']:,} cut short" if gate["shortened"] else ""
    scores = (f"{arm['score']:.{digits}f}" for arm in (found["on"], gate["off"], gate["random"]))
    return (name, f"{gate['dropped']:,}{shortened}", *scores, *(_difference(gate[key], digits) for key in _VERSUS))


def _difference(effect: dict[str, Any], digits: int) -> str:
    interval = effect["interval"]
    ends = () if interval is None else (interval["low"], interval["high"])
    value, *bounds = (signed(f"{number:+.{digits}f}") for number in (effect["value"], *ends))
    return f"{value} [{', '.join(bounds)}]" if bounds else value


def _conclusion(name: str, key: str, effect: dict[str, Any]) -> str:
    if effect["interval"] is None:
        return f"{name}: too few validation rows, or too uneven a score, to compare it with {_VERSUS[key]}"
    if effect["finding"] != "inconclusive":
        return f"{name}: the student is {effect['finding']} with it than {_VERSUS[key]}"
    needed = effect["decided_by"]
    counts = "" if needed is None else " and ".join(f"{count:,} {what}" for what, count in needed.items())
    wanted = f"; about {counts} would decide a difference as large as this" if counts else ""
    return f"{name}: inconclusive whether the student is better with it than {_VERSUS[key]}{wanted}"


def _caption(found: dict[str, Any]) -> str:
    metric, seeds, training = found["metric"], found["seeds"], found["training"]
    if training is None:
        return f"{found['on']['rows']:,} rows are learnt; no gate keeps a row out that the others let pass"
    return (
        f"{metric['title']} of students after {training['steps']:,} steps of {training['batch_size']} rows, mean of seeds "
        f"{seeds[0]} to {seeds[-1]}, on {found['questions']:,} validation questions ({found['units']:,} rows or groups); "
        f"{found['on']['rows']:,} rows learnt with all gates on; [ ] {percent_text(found['confidence'])} intervals over rows and seeds"
    )

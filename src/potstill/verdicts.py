"""Whether a figure reaches what was wished for: pass, fail or inconclusive, and how many rows would decide it. Pure; knows no files."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from potstill.records import Interval

Outcome = Literal["pass", "fail", "inconclusive"]
Unit = Literal["share", "score", "times"]
"""How a figure is written: `share` in per cent, `score` as metrics are, `times` as a multiple."""

ESTIMATES = ("retention", "gain", "gap_recovered", "over_sft")
"""Goals that are estimates of the first metric, by the names that comparisons give them."""
AGREEMENT = "agreement"


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure shall be `wanted` at least; less by up to `margin` is as good (non-inferiority). Both in the figure's own unit.

    `name` is its key in the spec, or the name of a metric; `title` is what people call it.
    """

    name: str
    wanted: float
    margin: float = 0.0
    title: str = ""
    unit: Unit = "share"

    @property
    def bound(self) -> float:
        """What the figure must not be below."""
        return self.wanted - self.margin


@dataclass(frozen=True, slots=True)
class Judged:
    """A goal, what was found, and the verdict; `needed_n` is how many units would decide an inconclusive one."""

    goal: Goal
    found: float | None
    interval: Interval | None
    verdict: Outcome
    needed_n: int | None
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """The verdict as `scores.json` and `report.json` hold it."""
        return {
            "goal": self.goal.name,
            "unit": self.goal.unit,
            "wanted": self.goal.wanted,
            "margin": self.goal.margin or None,
            "found": self.found,
            "interval": None if self.interval is None else dataclasses.asdict(self.interval),
            "verdict": self.verdict,
            "needed_n": self.needed_n,
            "sentence": self.sentence,
        }


def judge_goal(goal: Goal, found: float | None, interval: Interval | None, n: int | None, of: str = "test rows") -> Judged:
    """Judge a figure by its interval: `pass` where all lies at or above wanted − margin, `fail` where all lies below, else inconclusive.

    `n` counts what the interval was drawn from (`of` says in words what that is). With `n` None the figure is no estimate from a sample
    (bytes on disk, a price), and is judged by itself. A figure that is not there, and one from a sample too small for an interval, are
    inconclusive.

    An interval without width says that all rows agreed, not that all would: it is widened by the rule of three, −ln(α/2)/n either way
    (Hanley & Lippman-Hand 1983, JAMA 249, 1743, who take 3/n), which shrinks as 1/n.

    `needed_n` takes what was found for the truth, and the interval's reach towards the bound to shrink as 1/√n: n · (reach / distance)².
    So many rows decide one time in two, for what is found then lies nearer to the bound as often as farther; twice as many decide four
    times in five. None where what was found is the bound itself.
    """
    if found is None:
        return Judged(goal, None, None, "inconclusive", None, f"{_named(goal)} was not measured, {_wish(goal)}: inconclusive.")
    if n is None:
        verdict: Outcome = "pass" if found >= goal.bound else "fail"
        return Judged(goal, found, None, verdict, None, _sentence(goal, found, None, verdict))
    if interval is None:
        few = f"; {n:,} {of} are too few for an interval"
        return Judged(goal, found, None, "inconclusive", None, _sentence(goal, found, None, "inconclusive", few))
    low, high = _ends(found, interval, n)
    shrinks = 1 if interval.low == interval.high else 2
    if low >= goal.bound or high < goal.bound:
        verdict = "pass" if low >= goal.bound else "fail"
        return Judged(goal, found, interval, verdict, None, _sentence(goal, found, interval, verdict))
    reach, distance = found - low if found > goal.bound else high - found, abs(found - goal.bound)
    needed = max(n + 1, math.ceil(n * (reach / distance) ** shrinks)) if distance else None
    more = "" if needed is None else f"; about {_round(needed):,} {of} would decide it (so far {n:,})"
    return Judged(goal, found, interval, "inconclusive", needed, _sentence(goal, found, interval, "inconclusive", more))


def judge_quality(goals: Sequence[Goal], evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Judge goals about quality by the content of `scores.json`: estimates of the first metric, agreement, and scores by metric."""
    return [_judge_one(goal, evaluation).to_json() for goal in goals]


def tally(judged: Sequence[Mapping[str, Any]]) -> dict[Outcome, int]:
    """How many goals were passed, failed, and left open, without those that none was."""
    outcomes: tuple[Outcome, ...] = ("pass", "fail", "inconclusive")
    return {outcome: count for outcome in outcomes if (count := sum(one["verdict"] == outcome for one in judged))}


def figure_text(value: float, unit: Unit) -> str:
    """A figure in its unit: `92.5 %`, `0.812`, `31.2`, `10×`."""
    if unit == "share":
        return f"{_short(100 * value, 1)} %"
    text = _short(value, 1 if unit == "times" or abs(value) > 1 else 3, strip=unit == "times")
    return f"{text}×" if unit == "times" else text


def _judge_one(goal: Goal, evaluation: Mapping[str, Any]) -> Judged:
    primary = evaluation["primary"]
    titles = {name: metric["title"] for name, metric in evaluation["metrics"].items()}
    by_row = evaluation["settings"]["unit"] == "row"
    n, of = evaluation["scored"] if by_row else evaluation["groups"], "test questions" if by_row else "groups of test questions"
    if goal.name in ESTIMATES:
        found = evaluation["comparisons"].get(primary, {}).get("student", {}).get(goal.name)
        goal = dataclasses.replace(goal, title=f"{goal.title} in {titles[primary]}" if primary is not None else goal.title)
    elif goal.name == AGREEMENT:
        found = (evaluation["agreement"] or {"scores": {}})["scores"].get("student")
        n = found["n"] if found is not None and by_row else n
    else:
        found = evaluation["systems"].get("student", {"scores": {}})["scores"].get(goal.name)
        goal = dataclasses.replace(goal, title=titles.get(goal.name, goal.name))
    if found is None or found["value"] is None:
        return judge_goal(goal, None, None, n, of)
    interval = None if found["interval"] is None else Interval(**found["interval"])
    return judge_goal(goal, found["value"], interval, n, of)


def _ends(found: float, interval: Interval, n: int) -> tuple[float, float]:
    if interval.low < interval.high:
        return interval.low, interval.high
    scale = 1.0 if abs(found) <= 1 else 100.0  # BLEU and chrF are told in points of 100
    reach = -math.log((1 - interval.confidence) / 2) / n * scale
    return found - reach, found + reach


def _sentence(goal: Goal, found: float, interval: Interval | None, verdict: Outcome, more: str = "") -> str:
    ends = ""
    if interval is not None:
        low, high = (figure_text(end, goal.unit).removesuffix(" %").removesuffix("×") for end in (interval.low, interval.high))
        ends = f" [{low}, {high}]"
    return f"{_named(goal)} is {figure_text(found, goal.unit)}{ends}, {_wish(goal)}: {verdict}{more}."


def _named(goal: Goal) -> str:
    title = goal.title or goal.name.replace("_", " ")
    return title[:1].upper() + title[1:]


def _wish(goal: Goal) -> str:
    margin = f", less {figure_text(goal.margin, goal.unit)} of margin" if goal.margin else ""
    return f"{figure_text(goal.wanted, goal.unit)} or more wanted{margin}"


def _short(value: float, digits: int, *, strip: bool = True) -> str:
    text = f"{value:.{digits}f}"
    text = text.removesuffix(".0") if strip else text
    return text.replace("-", "−") if any(digit in text for digit in "123456789") else text.lstrip("-")


def _round(count: int) -> int:
    """Two digits are more than an extrapolation deserves."""
    return round(count, 1 - math.floor(math.log10(count)))

"""What the page's browser of test rows holds: each row with its references, answers, scores, and the lists that it stands in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from potstill.report.units import score_text

Row = dict[str, Any]

_REMARKS = {"error": "(the call failed)", "no_room": "(no room for the prompt)", "length": "(cut at the token limit)"}
_LISTS = (
    "teacher right, student wrong",
    "student right, teacher wrong",
    "both right",
    "both wrong",
    "student right",
    "student wrong",
    "student below teacher",
    "student above teacher",
    "student level with teacher",
    "student and teacher disagree",
    "student gave no answer",
    "an answer was cut",
    "judge: teacher",
    "judge: student",
    "judge: tie",
    "judge: no verdict",
)
"""Every list that a row may stand in, as a reader is offered them."""
_JUDGED = {"student": "judge: student", "teacher": "judge: teacher", "tie": "judge: tie", "abstain": "judge: no verdict"}
_ROLES = {"system": "system", "user": "prompt", "assistant": "earlier answer"}


def browser_rows(rows: Sequence[Row], evaluation: Mapping[str, Any], systems: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """What the page's script reads, of the rows of `gather.question_rows`; `systems` are (key, title).

    `systems` (key, title), `prompts` (texts that many rows share, once each), `lists` (names that `rows[].in` counts into; some may be
    empty), `slices` (values by kind), `sorts` (names of the numbers in `rows[].by`), `rows`: `id`, `messages` (role and text, or the place
    in `prompts`), `references`, `answers` (by system), `marks`, `in`, `by`; where known `slices`, `sure` (by system), `judged`.
    """
    metric = row_metric(rows, evaluation)
    exact = metric is not None and _is_exact(rows, metric)
    prompts: dict[str, int] = {}
    drawn = [_row(row, metric, exact, prompts) for row in rows]
    return {
        "systems": systems,
        "prompts": list(prompts),
        "lists": _LISTS,
        "slices": _slice_values(rows),
        "sorts": [] if metric is None else ["student's score, lowest first", "furthest below the teacher first"],
        "rows": drawn,
    }


def fitting(rows: Sequence[Row], characters: int = 12_000_000) -> Sequence[Row]:
    """The first rows, as many as have so many characters together: a page of more would open slowly."""
    for place, row in enumerate(rows):
        characters -= len(json.dumps(row, ensure_ascii=False))
        if characters < 0:
            return rows[:place]
    return rows


def as_script_data(value: object) -> Markup:
    """JSON that may stand in a script element: nothing in it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def row_metric(rows: Sequence[Row], evaluation: Mapping[str, Any]) -> str | None:
    """The metric by which single rows are judged: the first, else any that the rows carry; None where they carry none."""
    carried = {name for row in rows for reply in row["replies"].values() for name in reply.get("scores", {})}
    ordered = [name for name in (evaluation["primary"], *evaluation["metrics"]) if name in carried]
    return ordered[0] if ordered else None


def reply_text(reply: Row) -> str:
    """What a system replied, with a remark where it is not an answer."""
    parts = [reply["text"], _REMARKS.get(reply["finish_reason"], "")]
    if reply["answer"] is None and reply["finish_reason"] not in ("error", "no_room"):
        parts.append("(no answer in it)")
    return " ".join(part for part in parts if part)


def _row(row: Row, metric: str | None, exact: bool, prompts: dict[str, int]) -> Row:
    scores = (
        {}
        if metric is None
        else {system: reply["scores"][metric] for system, reply in row["replies"].items() if metric in reply.get("scores", {})}
    )
    member = [*_judged(scores, exact), *_answered(row), *_preferred(row)]
    drawn: Row = {
        "id": row["id"],
        "messages": [_message(message, prompts) for message in row["messages"]],
        "references": row["references"],
        "answers": {system: reply_text(reply) for system, reply in row["replies"].items()},
        "marks": {system: _mark(score, exact) for system, score in scores.items()},
        "in": [_LISTS.index(name) for name in member],
        "by": _numbers(scores),
    }
    more = {system: _likeliest(reply["probabilities"]) for system, reply in row["replies"].items() if reply.get("probabilities")}
    if more:
        drawn["sure"] = more
    if "slices" in row:
        drawn["slices"] = _values(row["slices"])
    if "judged" in row:
        drawn["judged"] = f"{row['judged']['outcome']}: {row['judged']['reason']}"
    return drawn


def _judged(scores: Mapping[str, float], exact: bool) -> Iterator[str]:
    student, teacher = scores.get("student"), scores.get("teacher")
    if exact and student is not None:
        yield "student right" if student else "student wrong"
    if student is None or teacher is None:
        return
    if exact:
        yield {
            (0, 0): "both wrong",
            (1, 1): "both right",
            (0, 1): "teacher right, student wrong",
            (1, 0): "student right, teacher wrong",
        }[int(student), int(teacher)]
    else:
        yield (
            "student above teacher" if student > teacher else "student below teacher" if student < teacher else "student level with teacher"
        )


def _answered(row: Row) -> Iterator[str]:
    replies = row["replies"]
    given = {system: reply["answer"] for system, reply in replies.items()}
    if {"student", "teacher"} <= set(given) and _plain(given["student"]) != _plain(given["teacher"]):
        yield "student and teacher disagree"
    if "student" in given and given["student"] is None:
        yield "student gave no answer"
    if any(reply["finish_reason"] == "length" for reply in replies.values()):
        yield "an answer was cut"


def _preferred(row: Row) -> Iterator[str]:
    if "judged" in row:
        yield _JUDGED[row["judged"]["outcome"]]


def _numbers(scores: Mapping[str, float]) -> list[float | None]:
    student, teacher = scores.get("student"), scores.get("teacher")
    return [student, None if student is None or teacher is None else student - teacher]


def _mark(score: float, exact: bool) -> str:
    if exact:
        return "✓" if score else "✗"
    return score_text(score)


def _is_exact(rows: Sequence[Row], metric: str) -> bool:
    """Whether each row is simply right or wrong."""
    return all(reply["scores"][metric] in (0, 1) for row in rows for reply in row["replies"].values() if metric in reply.get("scores", {}))


def _message(message: Mapping[str, str], prompts: dict[str, int]) -> list[str | int]:
    role, text = _ROLES[message["role"]], message["content"]
    return [role, prompts.setdefault(text, len(prompts)) if message["role"] == "system" else text]


def _slice_values(rows: Sequence[Row]) -> dict[str, list[str]]:
    """The values of each kind of slice, where there are two at least."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        for kind, names in _values(row.get("slices", {})).items():
            found.setdefault(kind, {}).update(dict.fromkeys(names))
    return {kind: sorted(names) if kind != "length" else list(names) for kind, names in found.items() if len(names) > 1}


def _values(slices: Mapping[str, Any]) -> dict[str, list[str]]:
    return {kind: [value] if isinstance(value, str) else list(value) for kind, value in slices.items() if value}


def _likeliest(probabilities: Mapping[str, float]) -> str:
    label = max(probabilities, key=lambda name: probabilities[name])
    return f"{label} with {probabilities[label]:.2f}"


def _plain(answer: object) -> str | None:
    return None if answer is None else " ".join(str(answer).casefold().split())

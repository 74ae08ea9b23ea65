"""The page's tables and sentences beside the charts. Each is empty where its part of `report.json` is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from potstill.report.cost import cost_sentence
from potstill.report.pictures import MEMORY, Report, memory_key, primary_title, systems_of
from potstill.report.table import OVER_THE_WIRE, bracket_text, difference_text, kept_text, measured
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
)

Cells = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure that a reader looks for first: large, what it is, and what it was made of."""

    figure: str
    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class Grid:
    """A table: its first column names the rows."""

    columns: Cells
    rows: tuple[Cells, ...]
    words: int = 1
    """How many columns, from the left, hold words; the others hold figures."""


def tiles(report: Report) -> list[Tile]:
    """What was kept and what was saved, of the student against its teacher."""
    return [tile for tile in (_kept_tile(report), *_saved_tiles(report), _users_tile(report), _dollars_tile(report)) if tile is not None]


def estimate_grid(report: Report) -> Grid | None:
    """What the student kept of the teacher's metrics, gained over the baseline, and recovered of the gap."""
    rows: list[Cells] = []
    for name, systems in report["evaluation"]["comparisons"].items():
        student = systems.get("student", {})
        cells = (
            kept_text(student.get("retention")).removeprefix("kept "),
            difference_text(student.get("gain")),
            _share_text(student.get("gap_recovered")),
        )
        if student:
            rows.append((report["evaluation"]["metrics"][name]["title"], *cells))
    return _grid(("", "kept of the teacher's", "gained over the baseline", "of the gap recovered"), rows)


def others_grid(report: Report) -> Grid | None:
    """What else the spec compares with: its score, what that is of the teacher's, and the student's score less it."""
    evaluation, rows = report["evaluation"], list[Cells]()
    for name, found in evaluation["comparisons"].items():
        for key, title in systems_of(report):
            lead = found.get("student", {}).get(f"over_{key}")
            if lead is None or key == "sft":
                continue
            score = _value_text(evaluation["systems"][key]["scores"].get(name))
            rows.append(
                (title, evaluation["metrics"][name]["title"], score, _share_text(found[key].get("retention")), difference_text(lead))
            )
    return _grid(("", "metric", "score", "of the teacher's", "student less this one"), rows, words=2)


def macro_grid(report: Report) -> Grid | None:
    """The mean over labels, tags or lengths, each counting alike however many rows it has."""
    systems = systems_of(report)
    titles = {"label": "mean over labels", "tag": "mean over tags", "length": "mean over lengths"}
    rows = [
        (titles.get(by, f"mean over {by}"), *(_value_text(found.get(key)) for key, _ in systems))
        for by, found in report["evaluation"].get("macro", {}).items()
    ]
    return _grid(("", *(title for _, title in systems)), rows)


def tests_grid(report: Report) -> Grid | None:
    """Paired tests between systems: how likely a difference like this is where there is none."""
    names = dict(systems_of(report))
    methods = {"mcnemar": "McNemar", "permutation": "paired permutation"}
    rows = [
        (
            report["evaluation"]["metrics"].get(metric, {"title": metric})["title"],
            f"{names.get(system, system)} and {names.get(other, other)}",
            methods.get(test["method"], test["method"]),
            _p_text(test["p"]),
            f"{test['n']:,}",
        )
        for metric, systems in report["evaluation"].get("tests", {}).items()
        for system, others in systems.items()
        for other, test in others.items()
    ]
    return _grid(("metric", "between", "test", "p", "n"), rows, words=3)


def judge_notes(report: Report) -> list[str]:
    """How the judge judged, and how far it can be trusted."""
    judge = report["evaluation"].get("judge")
    if not judge:
        return []
    flips, won = judge["position_flips"], judge["win_rate"]
    turned = "" if flips is None else f"; the verdict turned with the order in {percent_text(flips)}"
    notes = [f"Judge: {judge['model']}. {judge['pairs']:,} pairs, each shown in both orders{turned}."]
    if won and won["value"] is not None:
        notes.append(f"The student's win rate is {_score_text(won)}, n = {won['n']:,}; a tie is half a win.")
    agreed = judge.get("agreement_with_references")
    if agreed and agreed["value"] is not None:
        notes.append(f"Where there are references, the judge agrees with them in {_score_text(agreed)}, n = {agreed['n']:,}.")
    return [*notes, *_human_notes(judge.get("human"))]


def _human_notes(human: dict[str, Any] | None) -> list[str]:
    """How far the judge agrees with people, where a file holds what they preferred."""
    if human is None:
        return []
    notes = []
    if (agreed := human["agreement"]) is not None:
        kappa = "" if human["kappa"]["value"] is None else f" (Cohen's kappa {_value_text(human['kappa'])})"
        notes.append(f"People preferred whom the judge prefers in {_score_text(agreed)} of pairs{kappa}, n = {agreed['n']:,}.")
    else:
        notes.append("None of the pairs that people compared was decided by the judge.")
    if human["other_answers"]:
        notes.append(f"{human['other_answers']:,} pairs that people compared do not count: the answers are others now.")
    return notes


def lm_eval_grid(report: Report) -> Grid | None:
    """Tasks of lm-eval, each metric of each system with its standard error."""
    systems = systems_of(report)
    rows = []
    for task, found in report["evaluation"].get("lm_eval", {}).items():
        metrics = dict.fromkeys(metric for scores in found.values() for metric in scores)
        rows += [(f"{task}, {metric}", *(_with_error(found.get(key, {}).get(metric)) for key, _ in systems)) for metric in metrics]
    return _grid(("", *(title for _, title in systems)), rows)


def cost_grid(report: Report) -> Grid | None:
    """Dollars for a thousand requests, and how they were come by; None where no price is known at all."""
    if "cost" not in report or not cost_sentence(report["cost"]):
        return None
    names = dict(systems_of(report))
    rows = [
        (names.get(key, key), str(found["how"]), MISSING if found["dollars"] is None else dollars_text(found["dollars"]))
        for key, found in report["cost"]["per_1000_requests"].items()
    ]
    return _grid(("", "by", "1,000 requests"), rows, words=2)


def cost_notes(report: Report) -> list[str]:
    """What the distillation cost, and when it has paid for itself."""
    return [cost_sentence(report["cost"])] if "cost" in report else []


def seal_notes(report: Report) -> list[str]:
    """How often the test rows were opened."""
    said = seal_sentence(report)
    return [] if said is None else [f"{said} No step but those below has seen them."]


def seal_grid(report: Report) -> Grid | None:
    """Each opening of the test split: for what, by which artefact, when."""
    rows = [(str(one["purpose"]), _shortened(str(one["artefact"])), str(one["at"])) for one in report.get("seal", {}).get("openings", [])]
    return _grid(("opened for", "artefact", "at"), rows, words=3)


def _shortened(artefact: str) -> str:
    """A name, or as much of a hash as tells it from others."""
    return artefact if len(artefact) <= 40 else artefact[:16] + "…"


_LEAKS = {"train_test": "training rows like test rows", "answers_references": "teacher's answers like test references"}


def leaks_grid(report: Report) -> Grid | None:
    """Rows that training and test share, exactly or nearly, and answers that give test references away."""
    leaks = report.get("leaks", {})
    kinds = ("exact", "near", "paraphrase")
    rows = []
    for key, title in _LEAKS.items():
        found = leaks.get(key) or {}
        rows += [(title, *(str(found.get(kind, MISSING)) for kind in kinds))] if found else []
        left_out = found.get("left_out", {})
        if any(left_out.values()):
            rows.append(("found and left out before training", *(str(left_out.get(kind, MISSING)) for kind in kinds)))
    return _grid(("", *kinds), rows)


def leak_examples(report: Report) -> list[dict[str, str]]:
    """Pairs that were found: where, kind, both texts, similarity."""
    return [
        {
            "what": f"{_LEAKS[key]}: {found['kind']}, similarity {found['similarity']:.2f}{', left out' if found.get('left_out') else ''}",
            "train": str(found["train"]),
            "test": str(found["test"]),
        }
        for key in _LEAKS
        for found in (report.get("leaks", {}).get(key) or {}).get("examples", [])
    ]


def failures(report: Report) -> list[str]:
    """What did not work, in sentences: failed and undecided goals, answers without an answer, notices, slices that kept least."""
    return [
        *_failed_goals(report),
        *_harm(report),
        *_bad_answers(report),
        *_weak_slices(report),
        *_generation_failures(report),
        *report["data"].get("notices", []),
    ]


def generation_note(report: Report) -> str:
    """How many training rows have an answer, and what that took."""
    generation = report["generation"]
    rows = generation["rows"]["train"]
    tokens = generation["input_tokens"] + generation["output_tokens"]
    price = "of unknown price" if generation["dollars"] is None else f"for ${generation['dollars']:,.2f}"
    return (
        f"{rows['accepted']:,} of {rows['asked']:,} training rows have an answer that was kept."
        f" {generation['calls']:,} calls, {count_text(tokens)} tokens, {price}."
    )


def _kept_tile(report: Report) -> Tile | None:
    primary = report["evaluation"]["primary"]
    if primary is None:
        return None
    retention = report["evaluation"]["comparisons"].get(primary, {}).get("student", {}).get("retention")
    if retention is None or retention["value"] is None:
        return None
    interval = bracket_text(retention["interval"], 100).strip()
    return Tile(
        percent_text(retention["value"]), f"of the teacher's {primary_title(report)} kept", f"{interval} %" if interval else "no interval"
    )


def _saved_tiles(report: Report) -> Iterator[Tile]:
    student, teacher = measured(report, "student"), measured(report, "teacher")
    memory = memory_key(report)
    for key, what, text in (
        ("p50_s", "median latency", duration_text),
        (memory, dict(MEMORY)[memory], bytes_text),
        ("disk_bytes", "on disk", bytes_text),
    ):
        new, old = student.get(key), teacher.get(key)
        if new and old and (key != "disk_bytes" or student.get("storage") == teacher.get("storage")):
            wire = " over the wire" if key == "p50_s" and teacher.get("where") == OVER_THE_WIRE else ""
            yield Tile(change_text(new, old), what, f"{text(old)}{wire} → {text(new)}")


def _users_tile(report: Report) -> Tile | None:
    rates = {system: measured(report, system).get("requests_per_s", 0.0) for system in ("student", "teacher")}
    if not all(rates.values()):
        return None
    factor = rates["student"] / rates["teacher"]
    return Tile(
        f"{factor:.1f}×" if factor < 9.95 else f"{factor:.0f}×",
        "requests/s, at the best",
        f"{rates['teacher']:.3g} → {rates['student']:.3g}",
    )


def _dollars_tile(report: Report) -> Tile | None:
    prices = report.get("cost", {}).get("per_1000_requests", {})
    new, old = (prices.get(system, {}).get("dollars") for system in ("student", "teacher"))
    if new is None or not old:
        return None
    return Tile(change_text(new, old), "cost of 1,000 requests", f"{dollars_text(old)} → {dollars_text(new)}")


def _failed_goals(report: Report) -> Iterator[str]:
    for goal in report["evaluation"].get("goals", []):
        if goal["verdict"] != "pass":
            yield goal["sentence"]


def _harm(report: Report) -> Iterator[str]:
    distillation = report.get("distillation")
    if distillation and distillation["finding"] in ("worse", "inconclusive"):
        yield distillation["sentence"]


def _bad_answers(report: Report) -> Iterator[str]:
    questions = report["evaluation"]["questions"]
    words = {
        "unparsable": "held no answer that could be read, and count as wrong",
        "truncated": "ran into the token limit",
        "failed": "failed, and are not scored",
    }
    names = dict(systems_of(report))
    for key, text in words.items():
        for system in ("student", "teacher"):
            count = report["evaluation"]["systems"].get(system, {}).get(key, 0)
            if count:
                yield f"{count:,} of {questions:,} answers of the {names[system]} {text}."


def _weak_slices(report: Report) -> Iterator[str]:
    """Slices whose retention is below the whole's interval with all of their own."""
    evaluation = report["evaluation"]
    whole = evaluation["comparisons"].get(evaluation["primary"], {}).get("student", {}).get("retention") if evaluation["primary"] else None
    if not whole or not whole["interval"]:
        return
    for one in evaluation.get("slices", []):
        kept = one.get("retention")
        if kept and kept["interval"] and kept["interval"]["high"] < whole["interval"]["low"]:
            yield f"The {one['by']} “{one['name']}” kept clearly less than the whole: {_share_text(kept)}, n = {one['n']:,}."


def _generation_failures(report: Report) -> Iterator[str]:
    generation = report["generation"]
    for key, text in (
        ("failed", "training rows were left without an answer: their calls failed"),
        ("not_asked", "training rows were not asked"),
    ):
        if generation.get(key):
            yield f"{generation[key]:,} {text}."


def _grid(columns: Cells, rows: Sequence[Cells], words: int = 1) -> Grid | None:
    return Grid(columns, tuple(rows), words) if rows else None


def _share_text(estimate: dict[str, Any] | None) -> str:
    if estimate is None or estimate["value"] is None:
        return MISSING
    return percent_text(estimate["value"]) + bracket_text(estimate["interval"], 100)


def _score_text(score: dict[str, Any]) -> str:
    return percent_text(score["value"]) + bracket_text(score["interval"], 100)


def _value_text(score: dict[str, Any] | None) -> str:
    if score is None or score["value"] is None:
        return MISSING
    return score_text(score["value"]) + bracket_text(score["interval"])


def _with_error(found: dict[str, Any] | None) -> str:
    if found is None:
        return MISSING
    return score_text(found["value"]) + ("" if found.get("stderr") is None else f" ± {score_text(found['stderr'])}")


def _p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"

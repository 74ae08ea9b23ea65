"""What a comparison of runs found, as a table, and what is to be said beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from potstill.pipeline.evaluated import AGREEMENT
from potstill.report.table import Table, bracket_text, kept_text
from potstill.report.units import MISSING, bytes_text, count_text, dollars_text, duration_text, percent_text, score_text

Row = tuple[str, ...]

_MEASURED: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("latency p50", "p50_s", duration_text),
    ("latency p95", "p95_s", duration_text),
    ("time to first token", "first_token_s", duration_text),
    ("tokens/s after the first", "tokens_per_s", lambda rate: f"{rate:.1f}" if rate < 100 else f"{rate:.0f}"),
    ("most requests/s", "requests_per_s", lambda rate: f"{rate:.3g}" if rate < 100 else f"{rate:,.0f}"),
    ("memory above an empty process", "peak_above_empty_bytes", bytes_text),
    ("parameters", "parameters", count_text),
    ("weights in memory", "weights_bytes", bytes_text),
    ("disk", "disk_bytes", bytes_text),
)
_COUNTS = {
    "unparsable": "unparsable answers (wrong)",
    "no_room": "of those, no room for the prompt",
    "truncated": "answers cut at the token limit",
    "failed": "failed calls (not scored)",
}
_DISTILLATION = {
    "teacher_calls": "distillation: teacher's calls",
    "judge_calls": "distillation: judge's calls",
    "machine": "distillation: machine time",
    "total": "distillation: in all",
}
_LONGEST = 40
"""Characters of a setting that are shown."""


def runs_table(found: dict[str, Any]) -> Table:
    """The table of what `compare_runs` found: a column a run, the first being the one that the others are compared with."""
    rows = [*_metric_rows(found), *_count_rows(found), *_measured_rows(found), *_cost_rows(found), *_setting_rows(found)]
    return Table(("", *found["runs"]), tuple(rows), _caption(found))


def remarks(found: dict[str, Any]) -> list[str]:
    """What must be known beside the table: what was compared unpaired or in part, what seeds alone make of it, and what is not alike."""
    lines = [*_pairing(found), *_seed_lines(found)]
    if found["machines"] != "same":
        known = "were made on different machines" if found["machines"] == "different" else "do not all say on which machine they were made"
        lines.append(f"times and memory may not compare: the reports {known}")
    lines += [
        f"{title}: its spec.yaml is not the one that its figures were made by; what it says of settings and seeds may be wrong"
        for title, run in found["runs"].items()
        if not run["spec_stands"]
    ]
    return lines


def _metric_rows(found: dict[str, Any]) -> Iterator[Row]:
    runs, against = found["runs"], found["against"]
    for name, metric in found["metrics"].items():
        scores = [run["scores"].get(name) for run in runs.values()]
        yield (metric["title"], *(_score(score) for score in scores))
        yield (f"  less {against}", MISSING, *(_difference(of[name]) for of in found["differences"].values()))
        kept = [run["retention"].get(name) for run in runs.values()]
        if any(kept):
            yield ("  of its teacher's", *(kept_text(one) for one in kept))


def _count_rows(found: dict[str, Any]) -> Iterator[Row]:
    runs = found["runs"].values()
    yield ("test questions", *(f"{run['questions']:,}" for run in runs))
    yield ("rows learnt", *(f"{run['cost']['rows']:,}" for run in runs))
    for name, title in _COUNTS.items():
        if any(run["counts"].get(name) for run in runs):
            yield (title, *(f"{run['counts'].get(name, 0):,}" for run in runs))


def _measured_rows(found: dict[str, Any]) -> Iterator[Row]:
    for title, key, text in _MEASURED:
        values = [run["measured"].get(key) for run in found["runs"].values()]
        if any(value is not None for value in values):
            yield (title, *(MISSING if value is None else text(value) for value in values))


def _cost_rows(found: dict[str, Any]) -> Iterator[Row]:
    costs = [run["cost"] for run in found["runs"].values()]
    if any(cost["per_1000_requests"] is not None for cost in costs):
        yield ("1,000 requests", *(_dollars(cost["per_1000_requests"]) for cost in costs))
    for key, title in _DISTILLATION.items():
        if any(key in cost["distillation"] for cost in costs):
            yield (title, *(_dollars(cost["distillation"].get(key)) for cost in costs))
    yield ("distillation: time of training", *(_seconds(run, "train") for run in found["runs"].values()))


def _setting_rows(found: dict[str, Any]) -> Iterator[Row]:
    for key, values in found["settings"].items():
        yield (key, *(_setting(value) for value in values.values()))


def _pairing(found: dict[str, Any]) -> Iterator[str]:
    """A line a run that was not asked the first one's questions, all of them; metrics of one run share what they share."""
    for title, metrics in found["differences"].items():
        name, difference = next(iter(metrics.items()))
        own, against = (found["runs"][run]["scores"].get(name) for run in (title, found["against"]))
        rows = difference["rows"]
        if difference["how"] == "unpaired":
            yield (
                f"{title} and {found['against']} do not answer the same questions ({rows[1]:,} and {rows[0]:,}): their differences are "
                "unpaired, with wider intervals"
            )
        elif difference["how"] == "paired" and own and against and (rows[1] != own["n"] or rows[0] != against["n"]):
            yield (
                f"{title} and {found['against']} share {rows[1]:,} of their questions ({own['n']:,} and {against['n']:,}): their "
                "differences are on those, paired"
            )


def _seed_lines(found: dict[str, Any]) -> Iterator[str]:
    for group in found["seeds"]:
        yield f"{', '.join(group['runs'])} differ by their seed alone ({', '.join(map(str, group['seeds']))}):"
        for name, spread in group["metrics"].items():
            if spread["mean"] is None or spread["between_sd"] is None or spread["within_sd"] is None:
                continue
            yield (
                f"  {found['metrics'][name]['title']}: mean {score_text(spread['mean'])}{bracket_text(spread['interval'])}; standard "
                f"deviation {score_text(spread['between_sd'])} between seeds, {score_text(spread['within_sd'])} within one by its test rows"
            )


def _caption(found: dict[str, Any]) -> str:
    confidence = next(
        (
            estimate["interval"]["confidence"]
            for metrics in found["differences"].values()
            for estimate in metrics.values()
            if estimate["interval"] is not None
        ),
        None,
    )
    paired = all(one["how"] == "paired" for metrics in found["differences"].values() for one in metrics.values())
    note = "" if confidence is None else f"; [ ] {percent_text(confidence)} bootstrap intervals{', paired' if paired else ''}"
    agreed = "; agreement is with each run's own teacher" if AGREEMENT in found["metrics"] else ""
    return f"{found['system']} of each run, {found['task']}{note}{agreed}"


def _score(score: dict[str, Any] | None) -> str:
    if score is None or score["value"] is None:
        return MISSING
    return f"{score_text(score['value'])}{bracket_text(score['interval'])}"


def _difference(estimate: dict[str, Any]) -> str:
    if estimate["value"] is None:
        return MISSING
    sign = "+" if estimate["value"] > 0 else ""
    told = "" if estimate["interval"] is None else f", {estimate['finding']}"
    return f"{sign}{score_text(estimate['value'])}{bracket_text(estimate['interval'])}{told}"


def _dollars(dollars: float | None) -> str:
    return MISSING if dollars is None else dollars_text(dollars)


def _seconds(run: dict[str, Any], stage: str) -> str:
    return duration_text(run["seconds"][stage]) if stage in run["seconds"] else MISSING


def _setting(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"

"""Evaluated runs side by side: what each reached, how it differs from the first, and what seeds alone make of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from potstill.errors import DataError, UsageError
from potstill.evaluation.compare import STUDENT, Estimate, estimate_to_json
from potstill.evaluation.intervals import cluster_rows, percentile_interval
from potstill.evaluation.resampling import Bootstrap, Column, resample_figures
from potstill.evaluation.seeds import spread_of_seeds
from potstill.evaluation.sums import FloatArray
from potstill.pipeline.effects import finding_of
from potstill.pipeline.evaluated import AGREEMENT, EvaluatedRun, Marked, find_run, machine_of, read_evaluated, unlike
from potstill.report.gather import public_spec
from potstill.report.table import measured
from potstill.tasks.metrics.base import Metric

SCHEMA_VERSION = 1
How = Literal["paired", "unpaired"]

_MOSTLY = 0.5
"""Runs that share this much of the questions of each are compared on those; of fewer, too much would be left out."""
_SEEDS_AND_PLACES = ("name", "seed", "data.train", "data.validation", "data.test", "generation.ledger", "targets.cache")
"""What runs that differ by their seed alone may differ in as well: how they are called, and where things lie."""


@dataclass(frozen=True, slots=True)
class Resampled:
    """One metric of R runs: its figures `values_R` on the rows that are drawn, `draws_NR` of N resamples, and from how many `units`.

    `paired`: a resample drew the same questions of all; else each run's own. `rows`: how many questions of each.
    """

    how: How
    values_R: FloatArray
    draws_NR: FloatArray
    units: int
    rows: tuple[int, ...]


def compare_runs(folders: Sequence[Path | str], *, system: str = STUDENT) -> dict[str, Any]:
    """Hold evaluated runs of one task, named by their folders, against each other; the others are compared with the first.

    Keys: `schema_version`, `system`, `task`, `metrics` (`title` and `higher_is_better` by name; `agreement` is that with each run's own
    teacher), `runs` (by title: `seed`, `scores`, `retention`, `counts`, `measured`, `cost`, and so on), `against` (the first's title),
    `differences` (by the others' titles and metric: `how` they were drawn, on which `rows`, the estimate, the `finding`), `seeds` (of
    runs that differ by their seed alone), `settings` (what differs in their specs), `machines`.
    Raises UsageError for fewer than two runs, StoreError where one was not evaluated, DataError where they have no task, system or
    metric in common.
    """
    if len(folders) < 2:
        raise UsageError("name two runs or more; the first is the one that the others are compared with")
    runs = read_evaluated([find_run(Path(folder)) for folder in folders])
    _require_alike(runs, system)
    first, names = runs[0], _common_metrics(runs)
    return {
        "schema_version": SCHEMA_VERSION,
        "system": system,
        "task": first.run.spec.task.type,
        "metrics": {name: {"title": _title(first, name), "higher_is_better": metric.higher_is_better} for name, metric in names.items()},
        "runs": {run.title: _figures(run, system) for run in runs},
        "against": first.title,
        "differences": {
            other.title: {name: _difference(first, other, name, metric, system) for name, metric in names.items()} for other in runs[1:]
        },
        "seeds": [_seeds(group, names, system) for group in seed_groups(runs)],
        "settings": settings_that_differ(runs),
        "machines": _machines(runs),
    }


def resample_runs(marked: Sequence[Marked], settings: Bootstrap) -> Resampled:
    """Draw the rows of several runs: together those that all of them answered, where these are most of each; else each run's own."""
    shared = set.intersection(*(set(rows.keys) for rows in marked))
    if all(len(shared) >= _MOSTLY * len(rows) for rows in marked):
        kept = [rows.of([key for key in marked[0].keys if key in shared]) for rows in marked]
        columns = [_column(rows) for rows in kept]
        # Rows that go together in one run go together: their groups are the first's.
        clusters = cluster_rows(kept[0].groups)
        draws = resample_figures(columns, clusters, settings)
        return Resampled("paired", _values(columns), draws, int(clusters.max()) + 1, tuple(map(len, kept)))
    columns, every = [_column(rows) for rows in marked], [cluster_rows(rows.groups) for rows in marked]
    apart = [
        # Each from a seed of its own: resamples of different rows must not go up and down together.
        resample_figures([column], clusters, Bootstrap(settings.resamples, settings.confidence, settings.seed + place))
        for place, (column, clusters) in enumerate(zip(columns, every, strict=True))
    ]
    units = min(int(clusters.max()) + 1 for clusters in every)
    return Resampled("unpaired", _values(columns), np.concatenate(apart, axis=1), units, tuple(map(len, marked)))


def seed_groups(runs: Sequence[EvaluatedRun]) -> list[list[EvaluatedRun]]:
    """Runs of one spec, on files of the same content, whose seeds are all different; two at least."""
    groups: list[list[EvaluatedRun]] = []
    for run in (run for run in runs if run.spec_stands):
        group = next((group for group in groups if _less_seed(group[0]) == _less_seed(run)), None)
        if group is None:
            groups.append([run])
        elif all(run.run.spec.seed != other.run.spec.seed for other in group):
            group.append(run)
    return [group for group in groups if len(group) > 1]


def settings_that_differ(runs: Sequence[EvaluatedRun]) -> dict[str, dict[str, Any]]:
    """By dotted key of the spec, what each run has there (by title), where that is not the same in all."""
    flat = {run.title: _flat(public_spec(run.run.spec)) for run in runs}
    keys = dict.fromkeys(key for found in flat.values() for key in found)
    every = {key: {title: found.get(key) for title, found in flat.items()} for key in keys if key != "name"}
    return {key: found for key, found in every.items() if any(one != other for one, other in pairwise(found.values()))}


def _require_alike(runs: Sequence[EvaluatedRun], system: str) -> None:
    first = runs[0]
    for run in runs:
        apart = unlike(first, run)
        if apart is not None:
            raise DataError(f"{run.title} has another task than {first.title}, and cannot be compared with it: {apart}")
        systems = list(run.evaluation["systems"])
        if system not in systems:
            raise DataError(
                f"{run.title}: `{system}` was not evaluated there, only {', '.join(systems)}; `--system` says which is compared"
            )


def _common_metrics(runs: Sequence[EvaluatedRun]) -> dict[str, Metric]:
    """What all runs measured; agreement with unlike metrics is not one thing."""
    found = {name: metric for name, metric in runs[0].metrics.items() if all(name in run.metrics for run in runs)}
    if AGREEMENT in found and any(run.metrics[AGREEMENT].name != found[AGREEMENT].name for run in runs):
        del found[AGREEMENT]
    if not found:
        measured = "; ".join(f"{run.title}: {', '.join(run.metrics)}" for run in runs)
        raise DataError(f"the runs have no metric in common ({measured}); set `evaluation.metrics` alike and evaluate them again")
    return found


def _title(run: EvaluatedRun, name: str) -> str:
    evaluation = run.evaluation
    if name == AGREEMENT:
        return f"agreement with its teacher ({evaluation['agreement']['title']})"
    return str(evaluation["metrics"][name]["title"])


def _figures(run: EvaluatedRun, system: str) -> dict[str, Any]:
    """What the run's own report says of the system, and of what it took."""
    report, evaluation = run.report, run.evaluation
    found, agreed = evaluation["systems"][system], evaluation["agreement"]
    scores = dict(found["scores"])
    if agreed is not None and system in agreed["scores"]:
        scores[AGREEMENT] = agreed["scores"][system]
    kept = {name: systems.get(system, {}).get("retention") for name, systems in evaluation["comparisons"].items()}
    return {
        "folder": str(run.run.folder),
        "seed": run.run.spec.seed,
        "spec_stands": run.spec_stands,
        "questions": evaluation["questions"],
        "scores": scores,
        "retention": {name: estimate for name, estimate in kept.items() if estimate is not None},
        "counts": {name: found[name] for name in ("unparsable", "no_room", "truncated", "failed") if name in found},
        "measured": measured(report, system),
        "cost": _cost(report, system),
        "seconds": report["timings"]["stages"],
    }


def _cost(report: Mapping[str, Any], system: str) -> dict[str, Any]:
    """Dollars of 1,000 requests to the system, and of the distillation; None where nobody knows."""
    counted, generation = report.get("cost") or {}, report["generation"]
    taken = counted.get("distillation") or {"teacher_calls": generation["dollars"]}
    return {
        "per_1000_requests": (counted.get("per_1000_requests") or {}).get(system, {}).get("dollars"),
        "distillation": taken,
        "calls": generation["calls"],
        "rows": generation["rows"]["train"]["accepted"],
    }


def _difference(first: EvaluatedRun, other: EvaluatedRun, name: str, metric: Metric, system: str) -> dict[str, Any]:
    settings = _bootstrap(first)
    both = [marked for run in (first, other) if (marked := run.marked(name, system)) is not None]
    if len(both) < 2:
        return {"how": None, "rows": [0, 0], **estimate_to_json(Estimate(None, None)), "finding": "inconclusive"}
    drawn = resample_runs(both, settings)
    draws = drawn.draws_NR[:, 1] - drawn.draws_NR[:, 0]
    value = float(drawn.values_R[1] - drawn.values_R[0])
    estimate = Estimate(
        value if np.isfinite(value) else None, percentile_interval(draws, drawn.units, settings), float(np.mean(~np.isfinite(draws)))
    )
    interval = estimate.interval
    found = "inconclusive" if interval is None else finding_of(interval, higher_is_better=metric.higher_is_better)
    return {"how": drawn.how, "rows": list(drawn.rows), **estimate_to_json(estimate), "finding": found}


def _seeds(group: Sequence[EvaluatedRun], metrics: Mapping[str, Metric], system: str) -> dict[str, Any]:
    settings, found = _bootstrap(group[0]), {}
    for name in metrics:
        marked = [one for run in group if (one := run.marked(name, system)) is not None]
        if len(marked) < len(group):
            continue
        drawn = resample_runs(marked, settings)
        spread = spread_of_seeds(drawn.values_R, drawn.draws_NR, drawn.units, settings, same_rows=drawn.how == "paired")
        found[name] = {"metric": name, "how": drawn.how, **spread.to_json()}
    return {"runs": [run.title for run in group], "seeds": [run.run.spec.seed for run in group], "metrics": found}


def _machines(runs: Sequence[EvaluatedRun]) -> Literal["same", "different", "unknown"]:
    """Whether the figures of the clock were taken on like machines, as far as the reports tell."""
    machines = [machine_of(run) for run in runs]
    if None in machines:
        return "unknown"
    return "same" if all(machine == machines[0] for machine in machines) else "different"


def _bootstrap(run: EvaluatedRun) -> Bootstrap:
    settings = run.evaluation["settings"]
    return Bootstrap(settings["resamples"], settings["confidence"], run.evaluation["seed"])


def _column(rows: Marked) -> Column:
    return Column(rows.statistics_NS, rows.value)


def _values(columns: Sequence[Column]) -> FloatArray:
    return np.array([column.figure() for column in columns])


def _less_seed(run: EvaluatedRun) -> tuple[dict[str, Any], dict[str, Any]]:
    flat = _flat(run.run.spec.model_dump(mode="json"))
    sources = {split: source["sha256"] for split, source in run.report["data"]["sources"].items()}
    return {key: value for key, value in flat.items() if key not in _SEEDS_AND_PLACES}, sources


def _flat(section: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in section.items():
        key = f"{above}{name}"
        found.update(_flat(value, f"{key}.") if isinstance(value, dict) and value else {key: value})
    return found

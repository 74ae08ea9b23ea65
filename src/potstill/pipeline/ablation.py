"""What each gate does for the student: the same training with it, without it, and without it on as few rows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from potstill.data.ondisk import Dataset
from potstill.errors import DataError
from potstill.evaluation.intervals import cluster_rows
from potstill.evaluation.resampling import Bootstrap
from potstill.evaluation.sums import FloatArray
from potstill.generation.arms import WithoutGate, accepted_rows, gates_on, random_rows, rows_without
from potstill.generation.stage import recall_answers
from potstill.pipeline.effects import Design, Effect, effect
from potstill.pipeline.rehearsal import Arm, Outcome, Rehearsal
from potstill.spec import RunSpec
from potstill.store.adapted import taught
from potstill.store.atomic import write_json
from potstill.store.events import EventLog, Listener, RunFailed
from potstill.store.run import Run, RunLock, open_run
from potstill.training.recipe import load_validation

if TYPE_CHECKING:
    from potstill.training.validation import Validation

VALIDATION_ROWS = 1_000
"""At most so many validation rows are scored."""

Outcomes = dict[str, list[Outcome]]
"""By arm, an outcome a seed."""


@dataclass(frozen=True)
class _Plan:
    """What is to be trained on."""

    accepted: Dataset
    without: tuple[WithoutGate, ...]
    idle: tuple[str, ...]
    seeds: tuple[int, ...]

    def arms(self) -> Iterator[Arm]:
        """Seed by seed, so that a comparison that is cut short is of the same seeds; the accepted rows first, which set the steps."""
        for seed in self.seeds:
            yield Arm("on", self.accepted, seed)
            for gate in self.without:
                yield Arm(f"off {gate.gate}", gate.rows, seed)
                yield Arm(f"random {gate.gate}", random_rows(gate.rows, len(self.accepted), gate.gate, seed), seed)


def ablate_gates(spec: RunSpec, folder: Path, *, seeds: int = 3, listeners: Sequence[Listener] = ()) -> dict[str, Any]:
    """Train with and without each gate that keeps rows out, by `seeds` seeds each; returns what `generation/ablation.json` then holds.

    Nobody is asked anything. All arms take as many steps, of as many rows, as training on the accepted rows does: with equal epochs
    the arm with more rows would also learn for longer. No checkpoint is chosen, because that would take the rows that are scored:
    validation rows, by the metric that chooses checkpoints. Finished arms are kept, and a cut one goes on where it stood. Raises
    StoreError where nothing was generated yet, DataError where no row is kept, or none to validate has an answer to compare with, and what
    training raises.
    """
    with RunLock(folder):
        run = open_run(spec, folder, tuple(listeners))
        with _said_when_stopped(run.events):
            return _ablate(taught(run), tuple(spec.seed + number for number in range(seeds)))


def _ablate(run: Run, seeds: tuple[int, ...]) -> dict[str, Any]:
    plan, path = _plan(run, seeds), run.path("generation", "ablation.json")
    validation = load_validation(run, VALIDATION_ROWS)
    if validation is None:
        raise DataError("no validation row has an answer to compare with, so no student can be scored; add `reference` to validation rows")
    outcomes: Outcomes = {}
    if plan.without:
        outcomes = _train(run, plan, validation)
    found = _findings(run, plan, validation, outcomes)
    write_json(path, found)
    return found


def _plan(run: Run, seeds: tuple[int, ...]) -> _Plan:
    on = gates_on(run.spec.gates)
    with recall_answers(run) as (interview, train):
        accepted = accepted_rows(interview, train)
        if not len(accepted):
            raise DataError("the gates keep no row, so there is no training to compare with; `potstill gates` counts what they drop")
        found = [rows_without(interview, train, gate) for gate in on]
    without = tuple(gate for gate in found if gate.dropped or gate.shortened)
    return _Plan(accepted, without, tuple(gate.gate for gate in found if gate not in without), seeds)


def _train(run: Run, plan: _Plan, validation: Validation) -> Outcomes:
    arms, outcomes = list(plan.arms()), Outcomes()
    rehearsal = Rehearsal(run, run.path("generation", "ablation"), validation, [gate.rows for gate in plan.without])
    names = ", ".join(gate.gate for gate in plan.without)
    run.events.info(f"rows are kept out by {names}: {len(arms)} students are trained, of {len(plan.seeds)} seeds, and scored")
    with run.events.progress("students", len(arms), "students") as bar:
        for arm in arms:
            outcomes.setdefault(arm.name, []).append(rehearsal.outcome(arm, bar))
    rehearsal.tidy()
    return outcomes


def _findings(run: Run, plan: _Plan, validation: Validation, outcomes: Outcomes) -> dict[str, Any]:
    metric, settings = validation.metric, run.spec.evaluation
    clusters = cluster_rows([question.unit for question in validation.questions])
    bootstrap = Bootstrap(settings.resamples, settings.confidence, run.spec.seed)
    design = Design(metric.value, clusters, metric.higher_is_better, bootstrap)
    return {
        "metric": {"name": metric.name, "title": metric.title, "unit": metric.unit, "higher_is_better": metric.higher_is_better},
        "questions": len(validation.questions),
        "units": design.units,
        "seeds": list(plan.seeds),
        "confidence": settings.confidence,
        "resamples": settings.resamples,
        "training": outcomes["on"][0].training if outcomes else None,
        "on": _arm(len(plan.accepted), outcomes["on"], design) if outcomes else {"rows": len(plan.accepted)},
        "gates": {gate.gate: _gate(gate, len(plan.accepted), outcomes, design) for gate in plan.without},
        "without_effect": list(plan.idle),
    }


def _gate(gate: WithoutGate, accepted: int, outcomes: Outcomes, design: Design) -> dict[str, Any]:
    off, random = outcomes[f"off {gate.gate}"], outcomes[f"random {gate.gate}"]
    return {
        "dropped": gate.dropped,
        "shortened": gate.shortened,
        "unanswered": gate.unanswered,
        "off": _arm(len(gate.rows), off, design),
        "random": _arm(accepted, random, design),
        "on_minus_off": _compared(outcomes["on"], off, design).to_json(),
        "on_minus_random": _compared(outcomes["on"], random, design).to_json(),
    }


def _arm(rows: int, outcomes: Sequence[Outcome], design: Design) -> dict[str, Any]:
    scores = [float(design.value(outcome.statistics.sum(axis=0))) for outcome in outcomes]
    return {"rows": rows, "score": float(np.mean(scores)), "scores": scores}


def _compared(first: Sequence[Outcome], second: Sequence[Outcome], design: Design) -> Effect:
    return effect(_statistics(first), _statistics(second), design)


def _statistics(outcomes: Sequence[Outcome]) -> list[FloatArray]:
    return [outcome.statistics for outcome in outcomes]


@contextlib.contextmanager
def _said_when_stopped(events: EventLog) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        events.emit(RunFailed("stopped; the same command goes on from here", interrupted=True))
        raise

"""The stages in order: what stands is skipped, what was cut goes on, what is missing is made."""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, cast

from potstill.errors import ModelError, PotstillError, SpecError, StoreError
from potstill.spec import RunSpec
from potstill.store.adapted import taught, with_adapted
from potstill.store.events import (
    EventLog,
    Listener,
    RunFailed,
    RunFinished,
    RunStarted,
    StageFinished,
    StageName,
    StageSkipped,
    StageStarted,
)
from potstill.store.run import Run, RunLock, StageRecord, open_run

# Modules are named, not imported: training brings torch, which `potstill --help` and a dry run do without.
STAGES: dict[StageName, str] = {
    "data": "potstill.data.stage",
    "adapt": "potstill.training.adaptation",
    "generate": "potstill.generation.stage",
    "train": "potstill.training.stage",
    "evaluate": "potstill.evaluation.stage",
    "report": "potstill.report.stage",
}


_WORK_WITH_THE_TEACHER: tuple[StageName, ...] = ("generate", "train", "evaluate")
"""Stages that see an adapted teacher in the given one's place; the others tell of the spec as it was given."""


class Stage(Protocol):
    """What a stage module offers."""

    DISCARD: tuple[str, ...]

    # Only training and evaluation have one: they come after money was spent, and need more than the data.
    preflight: Callable[[Run], None]

    def inputs(self, run: Run) -> dict[str, object]:
        """Everything that the outputs depend on, as JSON can hold it."""
        ...

    def work(self, run: Run, resumed: bool) -> str:
        """Make the outputs; returns a line for people."""
        ...

    def outputs(self, run: Run) -> list[Path]:
        """The files that later stages read."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do with one stage, and why."""

    stage: StageName
    action: Literal["skip", "run", "resume"]
    reason: str


def run_pipeline(spec: RunSpec, folder: Path, *, until: StageName | None = None, listeners: Sequence[Listener] = ()) -> Run:
    """Run what is not yet made, up to stage `until` (all by default), in `folder`.

    Raises what the stages raise; the folder is then as good as before, and the same call goes on where this one stopped.
    """
    names = stages_of(spec, until)
    with at_work(spec, folder, listeners) as run:
        look_ahead(run, names)
        for name in names:
            bring_up(run, name, names)
    return run


@contextlib.contextmanager
def at_work(spec: RunSpec, folder: Path, listeners: Sequence[Listener]) -> Iterator[Run]:
    """A run that nobody else works on for the time of the block; its events tell how that begins and ends."""
    with RunLock(folder):
        run = open_run(spec, folder, tuple(listeners))
        started = time.monotonic()
        run.events.emit(RunStarted(spec.name, str(folder)))
        try:
            yield run
        except PotstillError as error:
            run.events.emit(RunFailed(str(error)))
            raise
        except KeyboardInterrupt:
            run.events.emit(RunFailed("stopped; the same command goes on from here", interrupted=True))
            raise
        run.events.emit(RunFinished(time.monotonic() - started))


def judge_again(spec: RunSpec, folder: Path, *, listeners: Sequence[Listener] = ()) -> tuple[Run, int]:
    """Run the gates over the answers that a run has, without a call; the stage stands afterwards where generating would change nothing.

    Returns the run, and how many rows need further answers. Raises StoreError where nothing was generated yet, or the spec differs in
    more than its gates; ModelError where nothing is kept. The stage is then as it was.
    """
    run = open_run(spec, folder, tuple(listeners))
    with RunLock(folder):
        stage, record = importlib.import_module(STAGES["generate"]), run.stage("generate")
        inputs = inputs_of(run, "generate")
        started = time.monotonic()
        run.events.emit(StageStarted("generate", resumed=True))
        judged = stage.judge_again(taught(run))
        # Only now, so that a refusal changes nothing; after a kill on the way the files are not those on record, and are made again.
        record.begin(inputs)
        if judged.whole:
            record.finish(inputs, stage.outputs(run))
        run.events.emit(StageFinished("generate", time.monotonic() - started, judged.summary))
    return run, judged.waiting


def plan_run(spec: RunSpec, folder: Path, *, until: StageName | None = None) -> list[Plan]:
    """What `run_pipeline` would do now. Nothing is written."""
    return _plan(Run(spec, folder, EventLog()), stages_of(spec, until))


@dataclass(frozen=True)
class _Foreseen(Run):
    """A run with the records that its stages will have when they are brought up."""

    records: dict[StageName, StageRecord] = field(default_factory=dict)

    def stage(self, name: StageName) -> StageRecord:
        """What will be on record of a stage."""
        return self.records.get(name) or super().stage(name)


def _plan(run: Run, names: Sequence[StageName]) -> list[Plan]:
    foreseen = _Foreseen(run.spec, run.folder, run.events)
    plans: list[Plan] = []
    for name in names:
        record = run.stage(name)
        if any(plan.action != "skip" for plan in plans):
            plans.append(Plan(name, "run", "an earlier stage is made first" if record.exists() else "not yet made"))
            continue
        inputs = inputs_of(foreseen, name)
        foreseen.records[name] = record.foreseen(inputs, load_stage(name).DISCARD)
        plans.append(_plan_stage(name, foreseen.records[name], inputs, put_back=foreseen.records[name] is not record))
    return plans


def _plan_stage(name: StageName, record: StageRecord, inputs: object, *, put_back: bool) -> Plan:
    if record.stands(inputs):
        return Plan(name, "skip", "what was made of these inputs is put back" if put_back else "its inputs and outputs are unchanged")
    if record.was_finished_on(inputs):
        return Plan(name, "resume", "an output is missing or changed")
    if record.was_begun_on(inputs):
        return Plan(name, "resume", "it was cut off")
    return Plan(name, "run", "its inputs changed" if record.exists() else "not yet made")


def stages_of(spec: RunSpec, until: StageName | None = None) -> list[StageName]:
    """The stages of a run in order, up to and with `until`. Raises SpecError where that is one that the spec does not ask for."""
    names = [name for name in STAGES if name != "adapt" or spec.teacher.adapt is not None]
    if until is not None and until not in names:
        raise SpecError("there is no teacher to adapt: the spec has no `teacher.adapt`; `teacher: {adapt: {}}` takes its defaults")
    return names if until is None else names[: names.index(until) + 1]


def inputs_of(run: Run, name: StageName) -> dict[str, object]:
    """Everything that a stage's outputs depend on."""
    inputs = load_stage(name).inputs(run)
    return with_adapted(run, inputs) if name in _WORK_WITH_THE_TEACHER else inputs


def look_ahead(run: Run, names: Sequence[StageName]) -> None:
    """Fail now where training or evaluation would fail after the teacher was paid."""
    if "train" in names and _plan(run, stages_of(run.spec, "generate"))[-1].action != "skip":
        load_stage("train").preflight(run)
    if "evaluate" in names and not run.stage("evaluate").exists():
        load_stage("evaluate").preflight(run)


def bring_up(run: Run, name: StageName, names: Sequence[StageName]) -> None:
    """Run one of `names` where its outputs do not stand."""
    stage, record = load_stage(name), run.stage(name)
    inputs = inputs_of(run, name)
    record.reclaim(inputs, stage.DISCARD)
    if record.stands(inputs):
        run.events.emit(StageSkipped(name))
        return
    started = time.monotonic()
    try:
        resumed = record.begin(inputs, discard=stage.DISCARD)
        run.events.emit(_started(run, name, names, resumed))
        summary = stage.work(taught(run) if name in _WORK_WITH_THE_TEACHER else run, resumed)
        outputs = stage.outputs(run)
        missing = [path for path in outputs if not path.exists()]
        if missing:
            raise StoreError(f"{missing[0]}: was removed while stage `{name}` ran; run the same command again")
        record.finish(inputs, outputs)
    except BaseException:
        # A mistake that shows at once must not cost what an earlier spec has made.
        record.put_back(stage.DISCARD)
        raise
    run.events.emit(StageFinished(name, time.monotonic() - started, summary))


def _started(run: Run, name: StageName, names: Sequence[StageName], resumed: bool) -> StageStarted:
    from potstill.pipeline.forecast import forecast  # needs what the stages need, as they do

    place = names.index(name)
    # How much there is to do, the data stage finds out; the report takes a moment.
    expected = forecast(run, names[place:]) if name not in ("data", "report") else {}
    after = sum(expected[later] for later in names[place + 1 :]) if expected else None
    return StageStarted(name, resumed, place + 1, len(names), expected.get(name), after)


def load_stage(name: StageName) -> Stage:
    """The module of a stage. Raises ModelError where a package that it needs is not installed."""
    try:
        return cast(Stage, importlib.import_module(STAGES[name]))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("potstill"):
            raise
        raise ModelError(f"stage `{name}` needs the package {error.name}: pip install 'potstill[train]'") from None

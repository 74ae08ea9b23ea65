"""Stage 1: the teacher answers each prompt, the gates keep or drop, and what is kept is the student's training set."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from potstill.data.labels import load_labels
from potstill.data.splits import open_split
from potstill.errors import BudgetError, EndpointError
from potstill.generation.asking import ask_rows, rows_of
from potstill.generation.collect import collect_answers, failed_share
from potstill.generation.gates import GATES
from potstill.generation.interview import Interview
from potstill.generation.panel import Panel, note_panel, open_budget, open_panel, recall_panel
from potstill.generation.pilot import fly_pilot
from potstill.models.ask import KEY_VERSION
from potstill.models.locate import weights_stamp
from potstill.records import Example
from potstill.store.events import StageName
from potstill.store.ledger import Ledger
from potstill.store.run import Run
from potstill.tasks import build_task
from potstill.tasks.base import Task

NAME: StageName = "generate"
# The ledger is not among them: an answer stands whatever else changes, because its key holds all that it depends on.
DISCARD = ("accepted.jsonl", "rejected.jsonl", "validation.jsonl", "usage.json")

VERSION = 1
_READ = ("data/train.jsonl", "data/validation.jsonl", "data/labels.json")
_HOW_TO_REACH = {
    *("api_key_env", "api_key_file", "timeout_s", "connect_timeout_s", "max_attempts", "patience_minutes", "price", "several"),
    *("requests_per_minute", "tokens_per_minute"),
}
_HOW_TO_ASK = {"concurrency", "budget", "max_failed", "pilot", "ledger", "mode", "batch_size", "judge", "qualify"}


def inputs(run: Run) -> dict[str, object]:
    """What the accepted rows depend on; not how the teacher is reached, nor the test rows."""
    spec = run.spec
    return {
        "version": [VERSION, KEY_VERSION, list(GATES)],
        "task": spec.task.model_dump(mode="json"),
        "teachers": [teacher.model_dump(mode="json", exclude=_HOW_TO_REACH) for teacher in spec.all_teachers],
        "judge": spec.generation.judge and spec.generation.judge.model_dump(mode="json", exclude=_HOW_TO_REACH),
        "weights": [weights_stamp(teacher.model) for teacher in spec.all_teachers],
        "batch_size": spec.generation.batch_size,
        "generation": spec.generation.model_dump(mode="json", exclude=_HOW_TO_ASK),
        "gates": spec.gates.model_dump(mode="json"),
        "seed": spec.seed,
        "files": {path: digest for path, digest in run.stage("data").outputs().items() if path in _READ},
    }


def outputs(run: Run) -> list[Path]:
    """The rows that were kept, dropped, and validate. `usage.json` is a record: what it cost changes nothing that is made of them."""
    return [run.path("generation", name) for name in ("accepted.jsonl", "rejected.jsonl", "validation.jsonl")]


def work(run: Run, resumed: bool) -> str:
    """Ask what the ledger lacks, judge everything, write what was kept.

    Raises EndpointError and ModelError where a teacher cannot be asked, does not pass, or nothing was kept; BudgetError where a cap
    is reached; StoreError where the disk fails.
    """
    del resumed  # the ledger knows
    task = build_task(run.spec.task, load_labels(run))
    train, validation = (open_split(run, split, "generation") for split in ("train", "validation"))
    with open_panel(run.spec, task) as panel:
        return generate(run, task, panel, train, validation)


def generate(run: Run, task: Task, panel: Panel, train: Sequence[Example], validation: Sequence[Example]) -> str:
    """`work` on rows and a panel that are open already."""
    spec = run.spec
    asks_validation = lacks_references(task, validation)
    rows = (train, validation) if asks_validation else (train,)
    note_panel(run.path("generation", "panel.json"), panel)
    with open_ledger(run) as ledger:
        if ledger.orphaned:
            run.events.info(f"{ledger.orphaned:,} calls were cut off when this run was stopped; of the answered ones none is asked again")
        if ledger.read_only:
            run.events.warn(f"{ledger.path}: {ledger.read_only}; it is open for reading, so nothing can be asked")
        interview = Interview(task, panel.teachers, ledger, generation=spec.generation, gates=spec.gates, judge=panel.judge)
        budget = open_budget(spec, ledger)
        try:
            fly_pilot(interview, train, spec.generation.pilot, run.events, budget)
            ask_rows(interview, rows_of(*rows), sum(map(len, rows)), run.events, budget=budget)
        except BudgetError as reached:
            if spec.generation.budget.when_reached == "stop":
                raise
            run.events.warn(f"{reached}. Going on with what was answered")
        _require_answers(interview, rows, spec.generation.max_failed)
        return collect_answers(run.path("generation"), interview, train, validation, asks_validation)


def judge_again(run: Run) -> tuple[str, int]:
    """Run the gates over the answers that are there, and write what they keep; nobody is asked, no model is loaded.

    Returns the line for people, and how many rows would need further answers. Raises StoreError where nothing was generated yet, or
    by other teachers; the gates' own errors.
    """
    task = build_task(run.spec.task, load_labels(run))
    train, validation = (open_split(run, split, "generation") for split in ("train", "validation"))
    panel = recall_panel(run.path("generation", "panel.json"), run.spec, task)
    asked = lacks_references(task, validation)
    with open_ledger(run) as ledger:
        interview = Interview(task, panel.teachers, ledger, generation=run.spec.generation, gates=run.spec.gates, judge=panel.judge)
        summary = collect_answers(run.path("generation"), interview, train, validation, asked)
        splits = (train, validation) if asked else (train,)
        return summary, sum(interview.outcome(example) is None for example in itertools.chain.from_iterable(splits))


def open_ledger(run: Run) -> Ledger:
    """The run's ledger, or the one that it shares."""
    return Ledger(run.spec.generation.ledger or run.path("generation", "ledger.sqlite"), run=run.spec.name)


def lacks_references(task: Task, rows: Iterable[Example]) -> bool:
    """True where some question of these rows has no gold answer to be scored on."""
    return any(not question.reference for row in rows for question in task.expand(row))


def _require_answers(interview: Interview, splits: Sequence[Sequence[Example]], most: float) -> None:
    """Stop where too many rows failed at the endpoint, for they are asked again by the next run, and by none once the stage stands."""
    failed, total = failed_share(interview, itertools.chain.from_iterable(splits))
    if failed and failed > most * total:
        raise EndpointError(
            f"{failed:,} of {total:,} rows failed at the endpoint (`generation.max_failed` lets {most:.0%} go); what was answered is kept: "
            "run the same command again to ask the others, or raise `generation.max_failed` to do without them"
        )

"""Stage 1: the teacher answers each prompt, the gates keep or drop, and what is kept is the student's training set."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from pathlib import Path

from potstill.data.labels import load_labels
from potstill.data.splits import open_split
from potstill.generation.collect import collect_answers
from potstill.generation.gates import GATES
from potstill.generation.plan import Interview, Round, lacks_references, teacher_sampling
from potstill.models.ask import KEY_VERSION, ask_async
from potstill.models.base import Model
from potstill.models.load import load_teacher
from potstill.models.locate import template_stamp, weights_stamp
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
_HOW_TO_REACH = {"api_key_env", "api_key_file", "timeout_s", "max_attempts", "price"}


def inputs(run: Run) -> dict[str, object]:
    """What the accepted rows depend on; not how the teacher is reached, nor the test rows."""
    spec = run.spec
    return {
        "version": [VERSION, KEY_VERSION, list(GATES)],
        "task": spec.task.model_dump(mode="json"),
        "teacher": spec.teacher.model_dump(mode="json", exclude=_HOW_TO_REACH),
        "weights": weights_stamp(spec.teacher.model),
        "template": template_stamp(spec.teacher),
        "batch_size": spec.generation.batch_size,
        "gates": spec.gates.model_dump(mode="json"),
        "seed": spec.seed,
        "files": {path: digest for path, digest in run.stage("data").outputs().items() if path in _READ},
    }


def outputs(run: Run) -> list[Path]:
    """The rows that were kept, dropped, and validate. `usage.json` is a record: what it cost changes nothing that is made of them."""
    return [run.path("generation", name) for name in ("accepted.jsonl", "rejected.jsonl", "validation.jsonl")]


def work(run: Run, resumed: bool) -> str:
    """Ask what the ledger lacks, judge everything, write what was kept.

    Raises EndpointError and ModelError where the teacher cannot be asked or nothing was kept, StoreError where the disk fails.
    """
    del resumed  # the ledger knows
    task = build_task(run.spec.task, load_labels(run))
    train, validation = (open_split(run, split, "generation") for split in ("train", "validation"))
    model = load_teacher(run.spec.teacher, run.spec.generation)
    return generate(run, task, model, train, validation)


def generate(run: Run, task: Task, model: Model, train: Sequence[Example], validation: Sequence[Example]) -> str:
    """`work` on rows and a teacher that are open already; closes the teacher."""
    asks_validation = lacks_references(task, validation)
    rows = (train, validation) if asks_validation else (train,)
    with Ledger(run.path("generation", "ledger.sqlite")) as ledger:
        if ledger.orphaned:
            run.events.info(f"{ledger.orphaned:,} calls were cut off when this run was stopped; of the answered ones none is asked again")
        interview = Interview(task, model, ledger, teacher_sampling(run.spec, task), run.spec.gates)
        asyncio.run(_ask_all(run, interview, rows))
        return collect_answers(run.path("generation"), interview, train, validation, asks_validation)


async def _ask_all(run: Run, interview: Interview, rows: Sequence[Sequence[Example]]) -> None:
    try:
        turn, expected = 0, sum(map(len, rows))
        while expected:
            round_ = Round(interview, turn)
            title = "teacher answers" if turn == 0 else f"teacher answers, turn {turn + 1}"
            with run.events.progress(title, expected, "answers") as progress:
                answers = await ask_async(interview.model, round_.requests(itertools.chain.from_iterable(rows)), interview.ledger, progress)
                progress.skip(expected - answers.asked - answers.stood)  # rows that a gate ended before this turn
            turn, expected = turn + 1, round_.going_on
    finally:
        await interview.model.close()

"""A second student that learns the same rows by plain fine-tuning, so that what distillation gave can be told."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from potstill.records import Example
from potstill.store.run import Run
from potstill.training.recipe import fine_tuning, load_validation, make_student
from potstill.training.summary import read_summary, write_summary
from potstill.training.teaching import build_teaching

COMPARED = "sft"
"""Its folder below `training/`, and its name among the systems that are evaluated."""


def compare_with_sft(run: Run, student: dict[str, Any], rows: Sequence[Example], *, resumed: bool) -> dict[str, Any] | None:
    """Train the plain student where the spec asks for it; returns its summary, None where there is nothing to compare.

    `student` is the summary of the distilled one, whose steps, batches, rate and number format it has. It starts from the same weights,
    with the same seed, learns answers alone where the other learns reasons too, and its checkpoint is chosen in the same way. Goes on
    where an earlier attempt was cut.
    """
    if not run.spec.training.compare_with_sft:
        return None
    if student["objective"] == "sft":
        run.events.info("training.compare_with_sft: the student learns by `sft` itself, so there is no other to compare it with")
        return None
    folder = run.path("training", COMPARED)
    summary = (read_summary(folder) if resumed else None) or _train(run, student, rows, folder)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return summary


def _train(run: Run, like: dict[str, Any], rows: Sequence[Example], folder: Path) -> dict[str, Any]:
    from potstill.training.fine_tune import fine_tune

    run.events.info("a second student learns the same rows by plain fine-tuning (training.compare_with_sft)")
    student = make_student(run, rows, run.path("training"))
    job = fine_tuning(run, student, partial(build_teaching, run, "sft", student, None), rows, folder, answers_alone=True)
    same = {"batch_size": like["batch_size"], "learning_rate": like["learning_rate"], "precision": like["precision"]}
    job = replace(
        job,
        training=run.spec.training.model_copy(update=same),
        steps=like["steps_planned"],
        # Prompt tokens are learnt from a teacher's probabilities alone.
        positions="answer",
        # What the student writes itself has no text to be held against.
        rollouts=None,
        validation=load_validation(run, run.spec.training.validation_rows),
    )
    return write_summary(folder, fine_tune(job).to_json())

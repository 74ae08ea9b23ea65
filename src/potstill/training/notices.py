"""What the user is told of a training before its first step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from potstill.spec.sections import OnPolicySpec, TrainingSpec

if TYPE_CHECKING:
    from potstill.training.fine_tune import FineTuning
    from potstill.training.rows import EncodedRows, Limit


def tell_left_out(job: FineTuning, encoded: EncodedRows, limit: Limit) -> None:
    """Which rows are not learnt from, or not whole."""
    if encoded.too_long:
        rows = len(encoded.rows) + encoded.too_long
        job.events.warn(f"{encoded.too_long} of {rows} rows are longer than {limit}, and are left out")
    if encoded.cut:
        cut = f"{encoded.cut} of {len(encoded.rows)} rows were longer than {limit}"
        job.events.warn(f"{cut}, and have lost the beginning of their prompts (`{job.section}.too_long: cut_left`)")
    if encoded.without_answer:
        job.events.warn(f"{encoded.without_answer} rows hold no answer to learn from, and are left out")


def tell_idle_patience(job: FineTuning) -> None:
    """That a patience which was asked for can never act."""
    patience, evaluations = job.training.patience, job.training.evaluations
    # A resolved spec names every key: what differs from the default was asked for.
    if patience != TrainingSpec.model_fields["patience"].default and patience >= evaluations - 1:
        job.events.warn(
            f"`{job.section}.patience` of {patience} never ends a training of {evaluations} evaluations early; "
            f"set `{job.section}.evaluations` to {patience + 2} or more, or a lower patience"
        )


def tell_rollouts(job: FineTuning) -> None:
    """What of `training.on_policy` is not used, or acts otherwise than one may think."""
    if job.rollouts is None:
        if job.training.on_policy != OnPolicySpec() and job.training.objective != "on_policy":
            job.events.warn("`training.on_policy` acts with `training.objective: on_policy` alone, and is not used")
        return
    several = sum(len(row.trained_turns) > 1 for row in job.rows)
    if several:
        job.events.info(
            f"{several} of {len(job.rows)} rows have several answers: the student writes the last one anew, after the others as they stand"
        )

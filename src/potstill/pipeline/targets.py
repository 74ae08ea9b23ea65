"""The teacher's probabilities for a run's rows, written ahead of training: what `potstill targets` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from potstill.pipeline.run import at_work, bring_up, inputs_of, load_stage, look_ahead, stages_of
from potstill.spec import RunSpec
from potstill.store.adapted import taught
from potstill.store.events import Listener

if TYPE_CHECKING:
    from potstill.training.cached import Kept


def make_targets(spec: RunSpec, folder: Path, *, listeners: Sequence[Listener] = ()) -> Kept:
    """Run the stages up to `generate`, make the student, and keep what the teacher says of its rows, where none of that stands yet.

    Training goes on from there, and needs the teacher's weights no more. Raises SpecError where the spec keeps nothing, and what the
    stages raise.
    """
    with at_work(spec, folder, listeners) as run:
        load_stage("train")  # says what to install, where something is missing
        from potstill.training import stage

        stage.check_cached(run)
        look_ahead(run, stages_of(spec, "train"))
        before = stages_of(spec, "generate")
        for name in before:
            bring_up(run, name, before)
        inputs, record = inputs_of(run, "train"), run.stage("train")
        record.reclaim(inputs, stage.DISCARD)
        try:
            if not record.stands(inputs):
                record.begin(inputs, discard=stage.DISCARD)
            return stage.keep_targets(taught(run))
        except BaseException:
            record.put_back(stage.DISCARD)
            raise

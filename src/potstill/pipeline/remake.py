"""The report of a run that was evaluated, made anew of what stands in its folder: by a newer Potstill, or after something was removed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from potstill.pipeline.evaluated import open_evaluated, spec_stands
from potstill.pipeline.run import at_work, inputs_of, load_stage
from potstill.store.events import Listener, StageFinished, StageStarted
from potstill.store.run import Run


def remake_report(folder: Path, *, listeners: Sequence[Listener] = ()) -> Run:
    """Write the report of an evaluated run, whether it stands already or not; no other stage is run, and nobody is asked anything.

    Raises StoreError where the run was not evaluated, or somebody is at work on it.
    """
    spec = open_evaluated(folder).spec
    with at_work(spec, folder, listeners) as run:
        stage, record, started = load_stage("report"), run.stage("report"), time.monotonic()
        if not spec_stands(run):
            run.events.warn(
                "spec.yaml is not what the figures were made by (another spec was given since, or its files are not here): the report "
                "shows it as it is; `potstill run SPEC` brings both together"
            )
        inputs = inputs_of(run, "report")
        record.begin(inputs, discard=stage.DISCARD)
        run.events.emit(StageStarted("report"))
        summary = stage.work(run, False)
        record.finish(inputs, stage.outputs(run))
        run.events.emit(StageFinished("report", time.monotonic() - started, summary))
    return run

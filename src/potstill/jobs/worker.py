"""The process of one job: `python -m potstill.jobs.worker FOLDER`. It outlives whoever started it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

from potstill.errors import PotstillError
from potstill.jobs.process import record_process
from potstill.jobs.records import JobRecord, cancel_requested, read_record, write_state
from potstill.jobs.registry import Registry


def main() -> None:
    """Leave the job to a process of its own, and end once that is on record."""
    folder = Path(sys.argv[1])
    reader, writer = os.pipe()
    if os.fork():
        # Nothing is written to the pipe where the child fails before it is on record: reading then gives nothing.
        os.close(writer)
        os._exit(0 if os.read(reader, 1) else 1)
    os.close(reader)
    os.setsid()
    signal.signal(signal.SIGTERM, _stop)
    record_process(folder)
    write_state(folder, "Running")
    os.write(writer, b"1")
    os.close(writer)
    work(folder)


def work(folder: Path) -> None:
    """Run the job in `folder` to its end, whatever that is, and write it down.

    What is not an error that a user can act on goes to the log with its traceback, and ends the process without a last word: the
    client then says so.
    """
    try:
        record = read_record(folder)
        distil(folder, record)
    except PotstillError as error:
        write_state(folder, "Failed", str(error))
    except KeyboardInterrupt:
        if cancel_requested(folder):
            write_state(folder, "Canceled")
        else:
            write_state(folder, "Failed", "the job's process was asked to stop; create a job with the same name to go on")
    else:
        write_state(folder, "Completed")


def distil(folder: Path, record: JobRecord) -> None:
    """Run the pipeline in the job's folder, and register what came out."""
    from potstill.pipeline import run_pipeline

    spec = record.run_spec(folder)
    run_pipeline(spec, folder)
    registry = Registry.of_jobs(folder.parent)
    distilled, baseline = record.models
    registry.register(distilled, folder / "training" / "best", record.name, spec.task.type)
    registry.register(baseline, folder / "training" / "baseline", record.name, spec.task.type)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()

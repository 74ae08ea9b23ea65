"""A job's files in its run folder, each with one writer at a time.

`job.json` says what was asked for (the client writes it), `state.json` how it stands (the worker), `cancel.json` that it is to end.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from potstill.errors import JobError
from potstill.jobs.entities import FINAL, Job, Status
from potstill.jobs.process import is_alive, last_words
from potstill.spec import RunSpec, spec_from_dict
from potstill.store.atomic import damaged, read_object, write_json

JOB_FILE, STATE_FILE, CANCEL_FILE = "job.json", "state.json", "cancel.json"
_START_SECONDS = 60.0


@dataclass(frozen=True)
class JobRecord:
    """What was asked for: the spec, what the models are called, where the events of this attempt begin (a byte of `events.jsonl`)."""

    name: str
    spec: dict[str, Any]
    student_label: str
    created_at: float
    events_from: int = 0
    display_name: str | None = None
    experiment_name: str | None = None
    description: str | None = None
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def models(self) -> tuple[str, str]:
        """The names that the student and the baseline are registered under."""
        return f"{self.student_label}-distilled", f"{self.student_label}-baseline"

    def run_spec(self, folder: Path) -> RunSpec:
        """The spec to run."""
        return spec_from_dict(self.spec, folder)


def write_job(folder: Path, record: JobRecord) -> None:
    """Put a new attempt of a job on record, as not started."""
    (folder / CANCEL_FILE).unlink(missing_ok=True)
    write_state(folder, "NotStarted")
    write_json(folder / JOB_FILE, asdict(record))


def read_record(folder: Path) -> JobRecord:
    """What was asked for. Raises JobError where there is no such job."""
    if not (folder / JOB_FILE).exists():
        there = sorted(path.parent.name for path in folder.parent.glob(f"*/{JOB_FILE}"))
        raise JobError(f'there is no job "{folder.name}" in this workspace; there are: {", ".join(there) or "none"}')
    try:
        return JobRecord(**read_object(folder / JOB_FILE))
    except TypeError:
        raise damaged(folder / JOB_FILE) from None


def write_state(folder: Path, status: Status, error: str | None = None) -> None:
    """Say how the job stands; the moments of its start and end are kept."""
    path = folder / STATE_FILE
    before = read_object(path) if path.exists() and status != "NotStarted" else {}
    started = time.time() if status == "Running" else before.get("started_at")
    write_json(path, {"status": status, "started_at": started, "finished_at": time.time() if status in FINAL else None, "error": error})


def request_cancel(folder: Path) -> None:
    """Note that the job is to be cancelled, so that its end is not taken for a failure."""
    write_json(folder / CANCEL_FILE, {"at": time.time()})


def settle_cancelled(folder: Path) -> None:
    """Write down that the job is cancelled, where its worker died before it could."""
    if _read_state(folder)["status"] not in FINAL:
        write_state(folder, "Canceled")


def cancel_requested(folder: Path) -> bool:
    """Whether the job is to be cancelled."""
    return (folder / CANCEL_FILE).exists()


def read_job(folder: Path) -> Job:
    """The job as it stands: what its worker wrote, or, where that died without a word, what must be concluded."""
    record = read_record(folder)
    alive = is_alive(folder)
    # Read after looking for the process: a worker that ended in between has written its last word by now.
    state = _read_state(folder)
    status, error = state["status"], state["error"]
    if status not in FINAL and not alive and not (status == "NotStarted" and time.time() - record.created_at < _START_SECONDS):
        if cancel_requested(folder):
            status = "Canceled"
        else:
            status, error = (
                "Failed",
                f"the job's process ended without a word (killed, or out of memory?); its log ends: {last_words(folder)}",
            )
    return Job(
        name=record.name,
        status=status,
        folder=folder,
        created_at=_moment(record.created_at),
        started_at=_moment(state["started_at"]) if state["started_at"] else None,
        finished_at=_moment(state["finished_at"]) if state["finished_at"] else None,
        error=error,
        models=record.models,
        display_name=record.display_name,
        experiment_name=record.experiment_name,
        description=record.description,
        tags=record.tags,
    )


def _read_state(folder: Path) -> dict[str, Any]:
    return read_object(folder / STATE_FILE, "status", "error", "started_at", "finished_at")


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

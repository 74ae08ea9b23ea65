"""A backend on this machine: a workspace folder, and a process for each job."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from potstill.data.read import check_readable
from potstill.errors import JobError
from potstill.jobs.entities import FINAL, DistillationJob, EvaluationRequest, Job, RegisteredModel
from potstill.jobs.process import launch, stop
from potstill.jobs.records import JOB_FILE, JobRecord, read_job, read_record, request_cancel, settle_cancelled, write_job
from potstill.jobs.registry import Registry, choose_version
from potstill.jobs.scoring import evaluate_registered, evaluate_unregistered
from potstill.jobs.translate import spec_of, student_label
from potstill.jobs.workspace import Workspace
from potstill.spec import RunSpec
from potstill.store.atomic import store_error
from potstill.store.events import Event, parse_events

_PATIENCE_SECONDS = 20.0


class LocalBackend:
    """Jobs as run folders in a workspace, each at work in a process that outlives its client."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._registry = Registry(workspace.folder)

    def create(self, wanted: DistillationJob) -> Job:
        """Put a job to work, or an ended one of the same name to work again."""
        label = student_label(wanted, wanted.name or "")
        name = wanted.name or f"distil-{label or 'job'}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        spec = spec_of(wanted, name, Path.cwd(), self._workspace.settings)
        _check_files(spec)
        folder = self._workspace.jobs / name
        if (folder / JOB_FILE).exists() and read_job(folder).status not in FINAL:
            raise JobError(f"job {name} is still running; cancel it first, or give the new one another name")
        record = JobRecord(
            name=name,
            spec=spec.model_dump(mode="json"),
            student_label=label or name,
            created_at=time.time(),
            events_from=_size(folder / "events.jsonl"),
            display_name=wanted.display_name,
            experiment_name=wanted.experiment_name,
            description=wanted.description,
            tags=dict(wanted.tags),
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise store_error(folder, error) from None
        write_job(folder, record)
        launch(folder, self._workspace.environment())
        return read_job(folder)

    def get(self, name: str) -> Job:
        """A job as it stands. Raises JobError where there is none of this name."""
        return read_job(self._workspace.jobs / name)

    def list(self) -> Sequence[Job]:
        """All jobs, the newest first."""
        jobs = [read_job(path.parent) for path in self._workspace.jobs.glob(f"*/{JOB_FILE}")]
        return sorted(jobs, key=lambda job: job.created_at, reverse=True)

    def cancel(self, name: str) -> Job:
        """End a job that has not ended: asked first, after 20 seconds by force. Raises JobError where it has ended."""
        folder = self._workspace.jobs / name
        job = read_job(folder)
        if job.status in FINAL:
            raise JobError(f"job {name} has ended ({job.status}), so it cannot be cancelled")
        request_cancel(folder)
        stop(folder, _PATIENCE_SECONDS)
        settle_cancelled(folder)
        return read_job(folder)

    def events(self, name: str, cursor: int = 0) -> tuple[Sequence[Event], int]:
        """What happened since `cursor` (0: since the job's beginning), and the cursor to ask with next time."""
        folder = self._workspace.jobs / name
        start = max(cursor, read_record(folder).events_from)
        try:
            with open(folder / "events.jsonl", "rb") as file:
                file.seek(start)
                # A line that is being written has no end yet: it is left for the next time.
                whole = file.read().rpartition(b"\n")[0]
        except FileNotFoundError:
            return [], start
        return list(parse_events(whole.split(b"\n"))), start + len(whole) + (1 if whole else 0)

    def models(self, name: str | None = None) -> Sequence[RegisteredModel]:
        """All registered models, or all versions of one."""
        return self._registry.versions(name)

    def evaluate(self, wanted: EvaluationRequest) -> dict[str, float]:
        """Figures of a model on test rows, by the names that they were asked for."""
        with self._workspace.names():
            registered = self._registry.versions(wanted.model_name)
            if registered:
                model = choose_version(registered, wanted.model_name, wanted.version)
                return evaluate_registered(model, self._workspace.jobs / model.job, wanted)
            self._complain_of_unfinished(wanted.model_name)
            return evaluate_unregistered(wanted)

    def _complain_of_unfinished(self, model_name: str) -> None:
        for job in self.list():
            if model_name in job.models:
                reason = f": {job.error}" if job.error else ""
                raise JobError(f"{model_name} is not registered, because job {job.name} is {job.status}{reason}")


def _check_files(spec: RunSpec) -> None:
    for path in (spec.data.train, spec.data.validation, spec.data.test):
        if path is not None:
            check_readable(path)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

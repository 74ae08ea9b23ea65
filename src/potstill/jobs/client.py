"""The client in Azure Machine Learning's words; what is behind it, a folder or a service, it does not know."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from potstill.errors import JobError, SpecError
from potstill.jobs.backend import Backend
from potstill.jobs.entities import FINAL, DistillationJob, EvaluationRequest, Job, RegisteredModel
from potstill.jobs.lines import event_line
from potstill.jobs.local import LocalBackend
from potstill.jobs.registry import choose_version
from potstill.jobs.workspace import open_workspace
from potstill.store.events import Event, Measured, Progressed

_POLL_SECONDS = 0.25
# Progress is told twice a second, the loss at every step; a log wants each less often.
_OFTEN_SECONDS = 5.0


class JobOperations:
    """`ml_client.jobs`: create, watch and cancel jobs."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def create_or_update(self, job: DistillationJob) -> Job:
        """Put a job to work in a process of its own, and return at once.

        A job with the name of one that has ended goes on with what that one left. Raises SpecError or DataError where the job
        or its files are not acceptable, JobError where a job of this name is still running.
        """
        if not isinstance(job, DistillationJob):
            raise SpecError(f"jobs are made of a DistillationJob, not of {type(job).__name__}")
        return self._backend.create(job)

    def get(self, name: str) -> Job:
        """The job as it stands. Raises JobError where there is none."""
        return self._backend.get(name)

    def list(self) -> Sequence[Job]:
        """All jobs, the newest first."""
        return self._backend.list()

    def cancel(self, name: str) -> Job:
        """End a running job; what it did is kept. Raises JobError where it has ended already."""
        return self._backend.cancel(name)

    def stream(self, name: str, show: Callable[[str], object] = print) -> Job:
        """Show what a job does, a line an event, until it ends; returns the ended job. Raises JobError where it failed."""
        for event in self._watch(name):
            line = event_line(event)
            if line is not None:
                show(line)
        job = self.get(name)
        if job.status == "Failed":
            raise JobError(f"job {name} failed: {job.error}")
        show(f"{name}: {job.status}")
        return job

    def _watch(self, name: str) -> Iterator[Event]:
        cursor, ended = 0, False
        shown_at: dict[str, float] = {}
        while not ended:
            ended = self.get(name).status in FINAL
            events, cursor = self._backend.events(name, cursor)
            for event in events:
                if isinstance(event, Progressed | Measured):
                    kind = f"{type(event).__name__} {event.task} {sorted(event.values) if isinstance(event, Measured) else ''}"
                    if event.at - shown_at.get(kind, 0.0) < _OFTEN_SECONDS:
                        continue
                    shown_at[kind] = event.at
                yield event
            if not ended:
                time.sleep(_POLL_SECONDS)


class ModelOperations:
    """`ml_client.models`: what jobs left, and how good it is."""

    def __init__(self, backend: Backend, jobs: JobOperations) -> None:
        self._backend, self._jobs = backend, jobs

    def list(self, name: str | None = None) -> Sequence[RegisteredModel]:
        """All registered models, or all versions of one."""
        return self._backend.models(name)

    def get(self, name: str, version: int | None = None) -> RegisteredModel:
        """A registered model, by default its newest version. Raises JobError where there is none."""
        return choose_version(self._backend.models(), name, version)

    def evaluate(
        self,
        model_name: str | Path,
        test_data: str | Path,
        metrics: Sequence[str] | str | None = None,
        *,
        version: int | None = None,
        task_type: str | None = None,
    ) -> dict[str, float]:
        """Ask a model the test questions, greedily, and score its answers; figures by the names that were asked for.

        `model_name` is a registered model, a catalogue name, a hub id or a path. Where a job that is still at work will register
        it, and no `version` is named, that job is streamed to its end first. `metrics` are one name or several, of `potstill.tasks.metrics`
        and `potstill.jobs.scoring.TIMINGS`: "accuracy" (share of the answers that equal an acceptable reference, whatever the task),
        "bleu_score" (points of 100), "inference_time" (median seconds an answer, asked one by one), ...; by default accuracy, the
        metrics of the task and inference_time. `task_type` is needed where no job tells it and the rows do not.
        Raises JobError where the job failed, DataError where rows or references are missing.
        """
        wanted = EvaluationRequest(
            str(model_name.absolute()) if isinstance(model_name, Path) else model_name,
            Path(test_data) if isinstance(test_data, str) else test_data,
            (metrics,) if isinstance(metrics, str) else tuple(metrics) if isinstance(metrics, Iterable) else metrics,
            version,
            task_type,
        )
        if version is None:
            for job in [job for job in self._jobs.list() if job.status not in FINAL and wanted.model_name in job.models]:
                self._jobs.stream(job.name)
        return self._backend.evaluate(wanted)


class MLClient:
    """A workspace's jobs and models.

    The names are those of Azure Machine Learning's SDK, so its code runs with other imports; credentials are not needed.
    """

    def __init__(self, backend: Backend) -> None:
        self.jobs = JobOperations(backend)
        self.models = ModelOperations(backend, self.jobs)

    @classmethod
    def from_config(cls, credential: object = None, *, path: str | Path | None = None) -> MLClient:
        """The client of the workspace that a config file describes.

        `path` is that file, or a folder to look from; without it, `potstill.json` or `config.json` is looked for in the working
        folder and those above it, and where there is none the workspace is the folder `potstill-workspace` in the working
        folder. `credential` is accepted and not used. Raises SpecError for a config that is not acceptable.
        """
        del credential
        return cls(LocalBackend(open_workspace(None if path is None else Path(path))))

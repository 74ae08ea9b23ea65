"""What stands behind a client: the little that a workspace on disk, or a service, has to be able to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from potstill.jobs.entities import DistillationJob, EvaluationRequest, Job, RegisteredModel
from potstill.store.events import Event


class Backend(Protocol):
    """Keeps jobs and models. Every method returns at once, but `evaluate`, and `cancel`, which may wait until the job has ended."""

    def create(self, wanted: DistillationJob) -> Job:
        """Put a job to work, or an ended one of the same name to work again."""
        ...

    def get(self, name: str) -> Job:
        """A job as it stands. Raises JobError where there is none of this name."""
        ...

    def list(self) -> Sequence[Job]:
        """All jobs, the newest first."""
        ...

    def cancel(self, name: str) -> Job:
        """End a job that has not ended. Raises JobError where it has."""
        ...

    def events(self, name: str, cursor: int = 0) -> tuple[Sequence[Event], int]:
        """What happened since `cursor` (0: since the job's beginning), and the cursor to ask with next time."""
        ...

    def models(self, name: str | None = None) -> Sequence[RegisteredModel]:
        """All registered models, or all versions of one."""
        ...

    def evaluate(self, wanted: EvaluationRequest) -> dict[str, float]:
        """Figures of a model on test rows, by the names that they were asked for."""
        ...

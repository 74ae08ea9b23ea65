"""The client, in front of a backend that keeps everything in memory: what a service will have to do is no more than this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from potstill.errors import JobError, SpecError
from potstill.jobs.client import MLClient
from potstill.jobs.entities import DistillationJob, EvaluationRequest, Job, RegisteredModel, Status
from potstill.store.events import Event, Measured, Noticed, Progressed, StageFinished

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class MemoryBackend:
    """A job that moves one status on each time it is looked at."""

    def __init__(self, statuses: Sequence[Status], events: Sequence[Event] = ()) -> None:
        self._job = Job("mine", "NotStarted", Path("mine"), NOON, None, None, None, ("m-distilled", "m-baseline"))
        self._statuses, self._events = list(statuses), list(events)
        self.evaluated: list[tuple[Status, EvaluationRequest]] = []

    def create(self, wanted: DistillationJob) -> Job:
        return self._job

    def get(self, name: str) -> Job:
        if self._statuses:
            status = self._statuses.pop(0)
            self._job = replace(self._job, status=status, error="it broke" if status == "Failed" else None)
        return self._job

    def list(self) -> Sequence[Job]:
        return [self._job]

    def cancel(self, name: str) -> Job:
        return replace(self._job, status="Canceled")

    def events(self, name: str, cursor: int = 0) -> tuple[Sequence[Event], int]:
        return self._events[cursor : cursor + 2], min(cursor + 2, len(self._events))

    def models(self, name: str | None = None) -> Sequence[RegisteredModel]:
        return [RegisteredModel("m-distilled", version, Path(), "mine", "qa", NOON) for version in (1, 2)]

    def evaluate(self, wanted: EvaluationRequest) -> dict[str, float]:
        self.evaluated.append((self._job.status, wanted))
        return {"accuracy": 1.0}


def test_stream_shows_every_event_once_and_returns_the_ended_job() -> None:
    events = [Noticed("info", f"line {number}") for number in range(5)]
    lines: list[str] = []
    job = MLClient(MemoryBackend(["Running", "Running", "Running", "Completed"], events)).jobs.stream("mine", lines.append)
    assert lines == [f"info: line {number}" for number in range(5)] + ["mine: Completed"]
    assert job.status == "Completed"


def test_stream_thins_out_what_is_told_every_moment() -> None:
    moments = [
        *(Progressed("asking", done, 100, "answers", 1.0, None, at=float(done)) for done in range(12)),
        *(Measured("training", step, {"loss": 1.0}, at=20.0 + step / 10) for step in range(12)),
        StageFinished("train", 3.0, "all learnt"),
    ]
    lines: list[str] = []
    MLClient(MemoryBackend(["Running"] * 12 + ["Completed"], moments)).jobs.stream("mine", lines.append)
    assert [line for line in lines if line.startswith("asking")] == [f"asking: {done}/100 answers" for done in (5, 10)]
    assert [line for line in lines if line.startswith("training")] == ["training, step 0: loss 1"]
    assert "train: done in 3 s; all learnt" in lines


def test_stream_of_a_failed_job_raises_its_reason() -> None:
    with pytest.raises(JobError, match="job mine failed: it broke"):
        MLClient(MemoryBackend(["Failed"])).jobs.stream("mine", lambda _: None)


def test_a_cancelled_job_ends_its_stream_quietly() -> None:
    assert MLClient(MemoryBackend(["Canceled"])).jobs.stream("mine", lambda _: None).status == "Canceled"


def test_evaluating_waits_for_the_job_that_makes_the_model() -> None:
    backend = MemoryBackend(["Running", "Running", "Completed"])
    assert MLClient(backend).models.evaluate("m-distilled", "test.jsonl", metrics=["accuracy"]) == {"accuracy": 1.0}
    assert backend.evaluated == [("Completed", EvaluationRequest("m-distilled", Path("test.jsonl"), ("accuracy",)))]


def test_one_metric_may_be_named_without_a_list_and_a_model_by_its_path() -> None:
    backend = MemoryBackend([])
    MLClient(backend).models.evaluate(Path("/models/m"), Path("test.jsonl"), metrics="accuracy")
    assert backend.evaluated == [("NotStarted", EvaluationRequest("/models/m", Path("test.jsonl"), ("accuracy",)))]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_name": None}, "`model_name` is missing; give a model's name or path"),
        ({"test_data": None}, "`test_data` is missing"),
        ({"metrics": 5}, "`metrics` is of type int"),
        ({"metrics": [5]}, r"give names, as in \['accuracy'\]"),
        ({"version": "newest"}, "`version` is of type str"),
        ({"task_type": 5}, "`task_type` is of type int"),
    ],
)
def test_a_request_of_another_kind_is_refused_before_a_backend_hears_of_it(changes: dict[str, Any], words: str) -> None:
    backend = MemoryBackend([])
    with pytest.raises(SpecError, match=words):
        MLClient(backend).models.evaluate(**{"model_name": "m", "test_data": "test.jsonl"} | changes)
    with pytest.raises(SpecError, match="not of dict"):
        MLClient(backend).jobs.create_or_update({"teacher_model": "m"})  # type: ignore[arg-type]
    assert backend.evaluated == []


@pytest.mark.parametrize(("name", "version"), [("other", None), ("m-distilled", 1)])
def test_evaluating_other_models_or_a_named_version_waits_for_nothing(name: str, version: int | None) -> None:
    backend = MemoryBackend(["Running"])
    MLClient(backend).models.evaluate(name, "test.jsonl", version=version)
    assert [status for status, _ in backend.evaluated] == ["NotStarted"]


def test_the_newest_version_is_got_unless_one_is_named() -> None:
    models = MLClient(MemoryBackend([])).models
    assert (models.get("m-distilled").version, models.get("m-distilled", 1).version) == (2, 1)
    with pytest.raises(JobError, match='no registered model "x"'):
        models.get("x")


def test_from_config_takes_a_credential_and_opens_the_default_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    client = MLClient.from_config(credential=object())
    assert list(client.jobs.list()) == list(client.models.list()) == []
    assert (tmp_path / "potstill-workspace").is_dir()

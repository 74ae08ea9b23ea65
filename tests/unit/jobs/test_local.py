"""Jobs on this machine: processes of their own, and what is known of them whatever becomes of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from potstill.errors import DataError, JobError, StoreError
from potstill.jobs.entities import DistillationJob, EvaluationRequest, Job
from potstill.jobs.local import LocalBackend
from potstill.jobs.process import launch, moment_of
from potstill.jobs.records import JobRecord, write_job, write_state
from potstill.jobs.workspace import Workspace
from potstill.models.testing import OpenAIStub, refused
from potstill.store.events import EventLog, Noticed, RunFailed, RunStarted, StageFinished

SLOW = 600.0


@pytest.fixture
def backend(tmp_path: Path, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch) -> LocalBackend:
    (tmp_path / "workspace" / "jobs").mkdir(parents=True)
    (tmp_path / "catalogue.yaml").write_text(f"phi-4-mini: {{path: {tiny_teacher}}}")
    monkeypatch.setenv("POTSTILL_CATALOGUE", str(tmp_path / "catalogue.yaml"))
    rows = ({"messages": [{"role": "user", "content": f"What is the {word} like over there, in {word}land?"}]} for word in "abcdefghijkl")
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return LocalBackend(Workspace(tmp_path / "workspace"))


@pytest.fixture
def silent() -> Iterator[OpenAIStub]:
    """A teacher that takes its time, so that its job is still at work when a test looks."""
    with OpenAIStub(delay_s=SLOW) as stub:
        yield stub


def wanted(tmp_path: Path, stub: OpenAIStub, **changes: Any) -> DistillationJob:
    given: dict[str, Any] = {
        "teacher_model": {"model": "stub", "base_url": stub.base_url, "max_attempts": 1},
        "student_model": "phi-4-mini",
        "training_data": tmp_path / "train.jsonl",
        "task_type": "summarization",
        "settings": {"data.near_duplicate": 1.0},
        "name": "mine",
    }
    return DistillationJob(**given | changes)


def job_on_disk(tmp_path: Path) -> Path:
    """The folder of a job that nobody works at."""
    folder = tmp_path / "workspace" / "jobs" / "mine"
    folder.mkdir()
    write_job(folder, JobRecord("mine", {}, "mine", time.time()))
    return folder


def wait(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not look():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def ended(backend: LocalBackend, name: str = "mine") -> Job:
    wait(lambda: backend.get(name).status in ("Completed", "Failed", "Canceled"))
    return backend.get(name)


def pid_of(job: Job) -> int:
    pid: int = json.loads((job.folder / "process.json").read_text())["pid"]
    return pid


def test_a_job_is_at_work_in_a_process_of_its_own_when_create_returns(backend: LocalBackend, tmp_path: Path, silent: OpenAIStub) -> None:
    job = backend.create(wanted(tmp_path, silent))
    assert job.status == "Running"
    assert job.models == ("phi-4-mini-distilled", "phi-4-mini-baseline")
    assert os.getsid(pid_of(job)) != os.getsid(0), "it would end with the client's terminal"
    wait(lambda: len(silent.calls) > 0)
    backend.cancel(job.name)


def test_a_job_outlives_the_client_that_made_it(backend: LocalBackend, tmp_path: Path, silent: OpenAIStub) -> None:
    code = (
        "import sys; from pathlib import Path; from potstill.jobs.workspace import Workspace; from potstill.ml import *\n"
        f"LocalBackend(Workspace(Path({str(tmp_path / 'workspace')!r}))).create(DistillationJob(name='mine', task_type='summarization',"
        f" teacher_model={{'model': 'stub', 'base_url': {silent.base_url!r}}}, student_model='phi-4-mini',"
        f" training_data={str(tmp_path / 'train.jsonl')!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    wait(lambda: len(silent.calls) > 0)
    assert backend.get("mine").status == "Running"
    backend.cancel("mine")


def test_a_cancelled_job_ends_with_its_process_and_is_not_called_failed(backend: LocalBackend, tmp_path: Path, silent: OpenAIStub) -> None:
    job = backend.create(wanted(tmp_path, silent))
    wait(lambda: len(silent.calls) > 0)
    pid = pid_of(job)
    cancelled = backend.cancel(job.name)
    assert (cancelled.status, cancelled.error) == ("Canceled", None)
    assert cancelled.finished_at is not None
    assert moment_of(pid) is None
    with pytest.raises(JobError, match="has ended"):
        backend.cancel(job.name)


def test_a_killed_job_is_failed_and_says_so(backend: LocalBackend, tmp_path: Path, silent: OpenAIStub) -> None:
    job = backend.create(wanted(tmp_path, silent))
    wait(lambda: len(silent.calls) > 0)
    os.kill(pid_of(job), signal.SIGKILL)
    job = ended(backend)
    assert job.status == "Failed"
    assert job.error is not None
    assert "ended without a word" in job.error


def test_a_job_that_is_stopped_from_outside_says_how_to_go_on(backend: LocalBackend, tmp_path: Path, silent: OpenAIStub) -> None:
    job = backend.create(wanted(tmp_path, silent))
    wait(lambda: len(silent.calls) > 0)
    os.kill(pid_of(job), signal.SIGTERM)
    job = ended(backend)
    assert job.status == "Failed"
    assert job.error is not None
    assert "the same name to go on" in job.error


def test_a_number_that_another_process_has_by_now_is_not_taken_for_the_job(backend: LocalBackend, tmp_path: Path) -> None:
    with OpenAIStub(always=refused(401)) as stub:
        job = backend.create(wanted(tmp_path, stub))
        ended(backend)
    write_state(job.folder, "Running")
    (job.folder / "process.json").write_text(json.dumps({"pid": os.getpid(), "began": "0"}))
    assert backend.get("mine").status == "Failed"
    (job.folder / "process.json").write_text(json.dumps({"pid": os.getpid(), "began": moment_of(os.getpid())}))
    assert backend.get("mine").status == "Running"


def test_the_reason_of_a_failure_is_the_message_that_the_command_line_gives(backend: LocalBackend, tmp_path: Path) -> None:
    with OpenAIStub(always=refused(401, "Incorrect API key provided")) as stub:
        backend.create(wanted(tmp_path, stub))
        job = ended(backend)
    assert job.status == "Failed"
    assert job.error is not None
    assert job.error.startswith(f"{stub.base_url}: 401: Incorrect API key provided; no key was sent")
    assert (job.folder / "worker.log").read_text() == ""


def test_a_second_job_of_a_name_is_refused_while_the_first_is_at_work(backend: LocalBackend, tmp_path: Path, silent: OpenAIStub) -> None:
    backend.create(wanted(tmp_path, silent))
    with pytest.raises(JobError, match="still running"):
        backend.create(wanted(tmp_path, silent))
    backend.cancel("mine")


def test_a_job_of_the_same_name_goes_on_and_its_events_are_its_own(backend: LocalBackend, tmp_path: Path) -> None:
    with OpenAIStub(always=refused(401)) as stub:
        backend.create(wanted(tmp_path, stub))
        ended(backend)
        first, cursor = backend.events("mine")
        assert backend.events("mine", cursor) == ([], cursor)
        backend.create(wanted(tmp_path, stub))
        ended(backend)
    second, _ = backend.events("mine")
    assert [type(event) for event in first if isinstance(event, StageFinished | RunFailed)] == [StageFinished, RunFailed]
    assert [type(event) for event in second if isinstance(event, RunStarted | StageFinished | RunFailed)] == [RunStarted, RunFailed]


def test_whatever_text_an_event_holds_it_is_told_whole(backend: LocalBackend, tmp_path: Path) -> None:
    folder = job_on_disk(tmp_path)
    texts = ["a\u2028b", "c\u0085d", "e\x0cf", "g\r\nh"]
    log = EventLog(folder / "events.jsonl")
    for text in texts:
        log.info(text)
    events, cursor = backend.events("mine")
    assert [event.text for event in events if isinstance(event, Noticed)] == texts
    assert backend.events("mine", cursor) == ([], cursor)


@pytest.mark.parametrize("name", ["job.json", "state.json", "process.json"])
@pytest.mark.parametrize("content", ["[]", '{"colour": "red"}'])
def test_a_damaged_file_of_a_job_is_told(backend: LocalBackend, tmp_path: Path, name: str, content: str) -> None:
    (job_on_disk(tmp_path) / name).write_text(content)
    with pytest.raises(StoreError, match=rf"{name}: does not hold what Potstill wrote any more"):
        backend.get("mine")


def test_jobs_are_listed_newest_first(backend: LocalBackend, tmp_path: Path) -> None:
    with OpenAIStub(always=refused(401)) as stub:
        for name in ("older", "newer"):
            backend.create(wanted(tmp_path, stub, name=name))
            ended(backend, name)
    assert [job.name for job in backend.list()] == ["newer", "older"]


def test_a_job_without_its_files_is_refused_before_anything_is_started(backend: LocalBackend, tmp_path: Path, silent: OpenAIStub) -> None:
    with pytest.raises(DataError, match=r"missing\.jsonl: there is no such file"):
        backend.create(wanted(tmp_path, silent, validation_data=tmp_path / "missing.jsonl"))
    assert backend.list() == []


def test_an_unknown_job_is_answered_with_those_that_are_there(backend: LocalBackend, tmp_path: Path) -> None:
    with pytest.raises(JobError, match='no job "other" in this workspace; there are: none'):
        backend.get("other")


def test_evaluating_what_a_failed_job_should_have_made_says_why_it_is_not_there(backend: LocalBackend, tmp_path: Path) -> None:
    with OpenAIStub(always=refused(401)) as stub:
        backend.create(wanted(tmp_path, stub))
        ended(backend)
    with pytest.raises(JobError, match="not registered, because job mine is Failed: http"):
        backend.evaluate(EvaluationRequest("phi-4-mini-distilled", tmp_path / "train.jsonl"))


def test_a_worker_that_cannot_start_is_an_error_with_the_workers_last_words(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "process.json").mkdir()
    with pytest.raises(JobError, match=r"could not be started: .*process\.json"):
        launch(folder, os.environ)

"""The models that a workspace's jobs left: one JSON file, replaced whole, and a lock for those who write it."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from potstill.errors import JobError
from potstill.jobs.entities import RegisteredModel
from potstill.spec import TaskType
from potstill.store.atomic import read_object, store_error, write_json


class Registry:
    """`models.json` of a workspace: each name's versions, the oldest first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "models.json"

    @classmethod
    def of_jobs(cls, jobs_folder: Path) -> Registry:
        """The registry of the workspace that keeps its jobs in `jobs_folder`."""
        return cls(jobs_folder.parent)

    def register(self, name: str, path: Path, job: str, task_type: TaskType) -> RegisteredModel:
        """Add a version of `name`; a job that ran again renews the one that it had registered before."""
        with self._locked():
            rows = self._rows()
            versions = rows.setdefault(name, [])
            version = next((row["version"] for row in versions if row["job"] == job), len(versions) + 1)
            row = {"version": version, "path": str(path), "job": job, "task_type": task_type, "created_at": time.time()}
            versions[:] = sorted([*(old for old in versions if old["version"] != version), row], key=lambda each: each["version"])
            write_json(self._path, rows)
        return _model(name, row)

    def versions(self, name: str | None = None) -> list[RegisteredModel]:
        """All versions of all models, or of the one called `name`."""
        return [_model(each, row) for each, rows in sorted(self._rows().items()) if name in (None, each) for row in rows]

    def _rows(self) -> dict[str, list[dict[str, Any]]]:
        return read_object(self._path) if self._path.exists() else {}

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        path = self._folder / ".models.lock"
        try:
            with open(path, "a", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise store_error(path, error) from None


def choose_version(models: Sequence[RegisteredModel], name: str, version: int | None = None) -> RegisteredModel:
    """One of `models`, by default the newest version of its name. Raises JobError where there is none."""
    found = [model for model in models if model.name == name and version in (None, model.version)]
    if found:
        return max(found, key=lambda model: model.version)
    wanted = name if version is None else f"{name}, version {version}"
    there = ", ".join(f"{model.name} (version {model.version})" for model in models) or "none"
    raise JobError(f'there is no registered model "{wanted}"; there are: {there}; a job registers its models when it completes')


def _model(name: str, row: dict[str, Any]) -> RegisteredModel:
    return RegisteredModel(
        name=name,
        version=row["version"],
        path=Path(row["path"]),
        job=row["job"],
        task_type=row["task_type"],
        created_at=datetime.fromtimestamp(row["created_at"], UTC),
    )

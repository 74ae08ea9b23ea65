"""Models and their versions."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from potstill.errors import JobError, StoreError
from potstill.jobs.registry import Registry, choose_version


def test_a_second_job_adds_a_version_and_the_same_job_renews_its_own(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.register("m", tmp_path / "a", "job-a", "qa")
    registry.register("m", tmp_path / "b", "job-b", "qa")
    registry.register("m", tmp_path / "a2", "job-a", "qa")
    assert [(model.version, model.path.name, model.job) for model in registry.versions("m")] == [(1, "a2", "job-a"), (2, "b", "job-b")]


def test_the_newest_version_is_chosen_unless_one_is_named(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    for job in ("one", "two"):
        registry.register("m", tmp_path / job, job, "qa")
    assert choose_version(registry.versions(), "m").job == "two"
    assert choose_version(registry.versions(), "m", 1).job == "one"


def test_a_damaged_registry_is_told(tmp_path: Path) -> None:
    (tmp_path / "models.json").write_text("[]")
    with pytest.raises(StoreError, match=r"models\.json: does not hold"):
        Registry(tmp_path).versions()


@pytest.mark.parametrize(("name", "version"), [("other", None), ("m", 7)])
def test_a_model_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path, name: str, version: int | None) -> None:
    registry = Registry(tmp_path)
    registry.register("m", tmp_path, "job", "qa")
    with pytest.raises(JobError, match=r"there are: m \(version 1\)"):
        choose_version(registry.versions(), name, version)


def test_jobs_that_end_together_do_not_lose_each_others_models(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: Registry(tmp_path).register("m", tmp_path, f"job-{number}", "qa"), range(24)))
    versions = [model.version for model in Registry(tmp_path).versions("m")]
    assert versions == list(range(1, 25))

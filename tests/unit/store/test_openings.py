"""Every opening of the test rows is on record before the rows are handed out, and none is counted twice."""

import json
from pathlib import Path
from typing import Any

import pytest

from potstill.data.splits import open_split, open_test
from potstill.errors import DataError, SealedTestError, StoreError
from potstill.records import Example, Message
from potstill.spec import spec_from_dict
from potstill.store.run import Run, open_run
from potstill.store.seal import PURPOSES, SEAL_FILE, openings_of, seal_to_json, weights_hash


def write_test(run: Run, *texts: str) -> None:
    run.path("data").mkdir(exist_ok=True)
    rows = [Example(text, (Message("user", text),)).to_json() for text in texts]
    run.path("data", "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    raw = {
        "name": "x",
        "task": {"type": "summarization"},
        "data": {"train": "t"},
        "teacher": {"model": "echo"},
        "student": {"model": "a/b"},
    }
    run = open_run(spec_from_dict(raw, tmp_path), tmp_path / "run")
    write_test(run, "one", "two")
    return run


def opened(run: Run, artefact: str = "a", purpose: str = "evaluation", settings: Any = 1) -> int:
    """Opens the test rows; how many openings of them are then on record."""
    assert len(open_test(run, purpose, artefact=artefact, settings=settings)) == 2
    count: int = seal_to_json(run)["opened"]
    return count


def test_an_opening_is_on_record_with_purpose_weights_and_time(run: Run) -> None:
    assert seal_to_json(run) == {"opened": 0, "of_other_rows": 0, "openings": []}
    opened(run)
    (opening,) = seal_to_json(run)["openings"]
    assert (opening["purpose"], opening["artefact"]) == ("evaluation", "a")
    assert opening["at"].endswith("+00:00")


def test_another_student_another_purpose_and_other_settings_are_other_openings(run: Run) -> None:
    assert opened(run) == 1
    assert opened(run, artefact="b") == 2
    assert opened(run, purpose="parity") == 3
    assert opened(run, settings=2) == 4


def test_the_same_weights_with_the_same_settings_are_one_opening_however_often_they_are_killed(run: Run) -> None:
    assert [opened(run), opened(run, artefact="b"), opened(run), opened(run, artefact="b")] == [1, 2, 2, 2]


def test_openings_of_other_rows_stay_on_record_and_are_told_apart(run: Run) -> None:
    opened(run)
    write_test(run, "one", "three")
    assert opened(run) == 1
    assert seal_to_json(run)["of_other_rows"] == 1


def test_what_a_stage_discards_does_not_take_the_count_with_it(run: Run) -> None:
    opened(run)
    for stage in ("data", "train", "evaluate"):
        record = run.stage(stage)
        record.folder.mkdir(exist_ok=True)
        record.begin({"one": 1})
        record.begin({"two": 2}, discard=[path.name for path in record.folder.iterdir()])
        record.finish({"two": 2}, [])
    write_test(run, "one", "two")
    assert seal_to_json(run)["opened"] == 1


@pytest.mark.parametrize("purpose", ["generation", "training", "adaptation", "gates", "report", "Evaluation", ""])
def test_any_other_purpose_is_refused_and_opens_nothing(run: Run, purpose: str) -> None:
    assert purpose not in PURPOSES
    with pytest.raises(SealedTestError, match=r"sealed until evaluation.*only evaluation and parity may"):
        open_test(run, purpose, artefact="a", settings=1)
    assert not run.path(SEAL_FILE).exists()


@pytest.mark.parametrize("purpose", ["training", "evaluation"])
def test_the_door_to_the_other_splits_does_not_lead_to_the_test(run: Run, purpose: str) -> None:
    with pytest.raises(SealedTestError, match="sealed"):
        open_split(run, "test", purpose)  # type: ignore[arg-type]


@pytest.mark.parametrize("link", ["hardlink_to", "symlink_to"])
def test_a_link_to_the_test_rows_is_the_test_rows(run: Run, link: str) -> None:
    getattr(run.path("data", "validation.jsonl"), link)(run.path("data", "test.jsonl").absolute())
    with pytest.raises(SealedTestError, match="is a link to them"):
        open_split(run, "validation", "training")


def test_rows_that_cannot_be_written_down_are_not_handed_out(run: Run) -> None:
    run.path(SEAL_FILE).mkdir()
    with pytest.raises(StoreError):
        open_test(run, "evaluation", artefact="a", settings=1)


def test_a_record_that_was_tampered_with_stops_the_evaluation(run: Run) -> None:
    opened(run)
    for text in ("{}", "nonsense", '{"openings": [{"purpose": "evaluation"}]}', '{"openings": [1]}'):
        run.path(SEAL_FILE).write_text(text)
        with pytest.raises(StoreError, match="nobody knows how often the test rows were opened"):
            openings_of(run)


def test_rows_that_are_not_prepared_are_named(run: Run) -> None:
    run.path("data", "test.jsonl").unlink()
    with pytest.raises(DataError, match="the test rows have not been prepared"):
        open_test(run, "evaluation", artefact="a", settings=1)


def test_the_artefact_is_the_hash_of_the_weights_file_and_changes_with_any_of_several(run: Run) -> None:
    def trained(**files: str) -> str:
        paths = [run.path("training", "best", name.replace("_", ".")) for name in files]
        for path, text in zip(paths, files.values(), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        run.stage("train").finish({}, paths)
        return weights_hash(run)

    one = trained(model_safetensors="w", config_json="c")
    assert one == run.stage("train").outputs()["training/best/model.safetensors"]
    assert trained(model_safetensors="w", config_json="d") == one
    assert len({one, trained(a_safetensors="1", b_safetensors="2"), trained(a_safetensors="1", b_safetensors="3")}) == 3

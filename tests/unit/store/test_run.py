"""A stage stands while its inputs and outputs do; a folder has one owner."""

import itertools
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from potstill.errors import StoreError
from potstill.store.events import EventLog, Noticed, Progressed, StageFinished, read_events
from potstill.store.run import RunLock, StageRecord


def finished(folder: Path, inputs: object = 1) -> StageRecord:
    record = StageRecord(folder, "data")
    record.begin(inputs)
    (record.folder / "out.txt").write_text("result")
    record.finish(inputs, [record.folder / "out.txt"])
    return record


def test_a_finished_stage_stands(tmp_path: Path) -> None:
    assert finished(tmp_path).stands(1)


def test_a_stage_falls_with_its_inputs_or_its_outputs(tmp_path: Path) -> None:
    record = finished(tmp_path)
    assert not record.stands(2)
    (record.folder / "out.txt").write_text("changed")
    assert not record.stands(1)
    (record.folder / "out.txt").unlink()
    assert not record.stands(1)


def test_a_stage_that_was_cut_resumes_on_the_same_inputs_alone(tmp_path: Path) -> None:
    record = StageRecord(tmp_path, "train")
    assert not record.begin({"a": 1})
    (record.folder / "checkpoints").mkdir()
    assert record.begin({"a": 1}, discard=["checkpoints"])
    assert (record.folder / "checkpoints").exists()
    assert not record.begin({"a": 2}, discard=["checkpoints"])
    assert not (record.folder / "checkpoints").exists()


DISCARD = ["out.txt", "checkpoints"]


def begun_anew(folder: Path, inputs: object = 2) -> StageRecord:
    record = finished(folder)
    assert not record.begin(inputs, discard=DISCARD)
    assert not (record.folder / "out.txt").exists()
    return record


def test_an_attempt_that_fails_before_it_made_anything_leaves_the_earlier_results_standing(tmp_path: Path) -> None:
    record = begun_anew(tmp_path)
    record.put_back(DISCARD)
    assert record.stands(1)
    assert sorted(path.name for path in record.folder.iterdir()) == ["out.txt", "stage.json"]


def test_an_attempt_that_made_something_keeps_it_and_resumes(tmp_path: Path) -> None:
    record = begun_anew(tmp_path)
    (record.folder / "checkpoints").mkdir()
    record.put_back(DISCARD)
    assert (record.folder / "checkpoints").exists()
    assert record.begin(2, discard=DISCARD)


def test_going_back_to_the_earlier_inputs_brings_the_earlier_results_back(tmp_path: Path) -> None:
    record = begun_anew(tmp_path)
    (record.folder / "checkpoints").mkdir()
    record.reclaim(3, DISCARD)
    assert not record.stands(1)
    record.reclaim(1, DISCARD)
    assert record.stands(1)
    assert not (record.folder / "checkpoints").exists()


def test_a_third_set_of_inputs_does_not_cost_the_results_of_the_first(tmp_path: Path) -> None:
    record = begun_anew(tmp_path)
    (record.folder / "out.txt").write_text("half")
    assert not record.begin(3, discard=DISCARD)
    record.put_back(DISCARD)
    assert record.stands(1)


def test_what_was_set_aside_goes_when_the_new_attempt_is_finished(tmp_path: Path) -> None:
    record = begun_anew(tmp_path)
    (record.folder / "out.txt").write_text("new")
    record.finish(2, [record.folder / "out.txt"])
    assert record.stands(2)
    assert sorted(path.name for path in record.folder.iterdir()) == ["out.txt", "stage.json"]


KILLED_AT = """
import os, pathlib, signal, sys
from potstill.store.run import StageRecord
record, countdown = StageRecord(pathlib.Path(sys.argv[1]), "data"), [int(sys.argv[2])]

def dying(change):
    def changed(*arguments, **settings):
        if countdown[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        countdown[0] -= 1
        return change(*arguments, **settings)
    return changed

# Every change of the folder goes through one of these.
for module, name in ((os, "rename"), (os, "replace"), (os, "unlink"), (os, "mkdir"), (os, "rmdir")):
    setattr(module, name, dying(getattr(module, name)))
record.reclaim(2, ["out.txt", "checkpoints"])
record.begin(2, discard=["out.txt", "checkpoints"])
record.put_back(["out.txt", "checkpoints"])
"""


def assert_foreseen(record: StageRecord, inputs: object, copy: Path) -> None:
    """What is foreseen of a record is what comes of it."""
    foreseen = record.foreseen(inputs, DISCARD)
    told = (foreseen.exists(), foreseen.stands(inputs), foreseen.was_begun_on(inputs), foreseen.was_finished_on(inputs))
    shutil.copytree(record.folder, copy / "data")
    reclaimed = StageRecord(copy, "data")
    reclaimed.reclaim(inputs, DISCARD)
    assert told == (reclaimed.exists(), reclaimed.stands(inputs), reclaimed.was_begun_on(inputs), reclaimed.was_finished_on(inputs))
    if reclaimed.stands(inputs):
        assert foreseen.outputs() == reclaimed.outputs()


def test_what_a_later_attempt_made_in_the_place_of_earlier_results_is_not_taken_for_them(tmp_path: Path) -> None:
    record = begun_anew(tmp_path)
    (record.folder / "out.txt").write_text("result")
    (record.folder / ".before" / "out.txt").unlink()
    assert_foreseen(record, 1, tmp_path / "copy")
    assert not record.foreseen(1, DISCARD).stands(1)


def test_a_kill_at_any_change_of_the_folder_loses_nothing(tmp_path: Path) -> None:
    for change in itertools.count():
        folder = tmp_path / str(change)
        record = finished(folder)
        command = [sys.executable, "-c", KILLED_AT, str(folder), str(change)]
        killed = subprocess.run(command, capture_output=True, text=True, check=False)
        assert killed.returncode in (0, -9), killed.stderr
        for inputs in (1, 2, 3):
            assert_foreseen(record, inputs, tmp_path / f"{change}-{inputs}")
        record.reclaim(2, DISCARD)
        record.begin(2, discard=DISCARD)
        assert not (record.folder / "out.txt").exists(), f"killed at change {change}"
        record.reclaim(1, DISCARD)
        assert record.stands(1), f"killed at change {change}"
        if killed.returncode == 0:
            break
    assert change > 5


def test_outputs_of_an_unfinished_stage_cannot_be_read(tmp_path: Path) -> None:
    record = StageRecord(tmp_path, "generate")
    record.begin(1)
    with pytest.raises(StoreError, match="potstill generate"):
        record.outputs()


def test_a_run_folder_has_one_owner(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from potstill.store.run import RunLock; RunLock(Path({str(tmp_path)!r})).__enter__()"
    with RunLock(tmp_path):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "another potstill process" in other.stderr
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr


def test_events_are_read_back_and_a_torn_last_line_is_passed_over(tmp_path: Path) -> None:
    heard: list[object] = []
    log = EventLog(tmp_path / "events.jsonl", (heard.append,))
    log.emit(StageFinished("data", 1.5, "12 rows"))
    log.warn("careful")
    with open(tmp_path / "events.jsonl", "a") as file:
        file.write('{"event": "Noticed", "lev')
    assert list(read_events(tmp_path / "events.jsonl")) == heard
    assert isinstance(heard[1], Noticed)


def test_the_first_event_after_a_kill_is_not_glued_to_the_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    EventLog(path).info("before")
    with open(path, "a") as file:
        file.write('{"event": "Noticed", "lev')
    log = EventLog(path)
    log.info("after")
    log.info("and on")
    assert [event.text for event in read_events(path)] == ["before", "after", "and on"]


DAMAGE = [
    b"[1]",
    b'{"event": "Noticed", "level": "info", "text": "\xff"}',
    b'{"event": ["Noticed"]}',
    b'{"event": "Noticed", "level": "loud", "text": ""}',
    b'{"event": "StageFinished", "stage": "data"}',
    b"\x00",
    b"",
]


@pytest.mark.parametrize("line", DAMAGE)
def test_a_damaged_line_between_events_is_passed_over(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.info("before")
    with open(path, "ab") as file:
        file.write(line + b"\n")
    log.info("after")
    assert [event.text for event in read_events(path) if isinstance(event, Noticed)] == ["before", "after"]


def test_an_event_of_a_newer_version_is_read_without_what_is_new(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"event": "Noticed", "level": "info", "text": "hello", "colour": "red", "at": 1.5}\n')
    assert list(read_events(tmp_path / "events.jsonl")) == [Noticed("info", "hello", at=1.5)]


@pytest.mark.parametrize("content", ["[]", "{}", '{"state": "finished", "inputs": "x"}', "{"])
def test_a_damaged_stage_record_is_told(content: str, tmp_path: Path) -> None:
    record = finished(tmp_path)
    (record.folder / "stage.json").write_text(content)
    for look in (lambda: record.stands(1), lambda: record.begin(1), record.outputs):
        with pytest.raises(StoreError, match=r"stage\.json: does not hold what Potstill wrote any more; remove it"):
            look()


def test_progress_counts_only_fresh_work_into_its_rate() -> None:
    heard: list[object] = []
    with EventLog(listeners=(heard.append,)).progress("generate", 100, "answers", done=90) as bar:
        bar.advance(10, dollars=0.5)
    last = heard[-1]
    assert isinstance(last, Progressed)
    assert (last.done, last.total, last.dollars) == (100, 100, 0.5)
    assert last.eta_s == 0.0

"""Folders of weights are whole or not there; checkpoints are the two newest whole ones."""

import contextlib
import errno

import pytest

from potstill.errors import StoreError
from potstill.training.folders import Checkpoints, recover_folder, replace_folder


def write(folder, text):
    with replace_folder(folder) as part:
        (part / "weights").write_text(text)


def test_a_folder_takes_the_place_of_the_old_one_whole(tmp_path):
    write(tmp_path / "best", "one")
    write(tmp_path / "best", "two")
    assert (tmp_path / "best" / "weights").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_failure_while_writing_leaves_the_old_folder_as_it_was(tmp_path):
    write(tmp_path / "best", "one")
    with contextlib.suppress(KeyboardInterrupt), replace_folder(tmp_path / "best") as part:
        (part / "weights").write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "best" / "weights").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_kill_between_the_two_renames_is_undone(tmp_path):
    write(tmp_path / "best", "one")
    (tmp_path / "best").rename(tmp_path / ".best.old")
    (tmp_path / ".best.part").mkdir()
    recover_folder(tmp_path / "best")
    assert (tmp_path / "best" / "weights").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def save(checkpoints, step):
    with checkpoints.saving(step) as part:
        (part / f"checkpoint-{step}").mkdir()
        (part / f"checkpoint-{step}" / "weights").write_text(str(step))


def test_the_two_furthest_checkpoints_are_kept_and_the_furthest_is_the_newest(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.newest() is None
    for step in (2, 9, 10, 100):
        save(checkpoints, step)
        assert checkpoints.newest().name == f"checkpoint-{step}"
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-10", "checkpoint-100"}


def test_a_checkpoint_that_was_cut_off_is_not_there(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 5)
    with contextlib.suppress(KeyboardInterrupt), checkpoints.saving(8) as part:
        (part / "checkpoint-8").mkdir()
        raise KeyboardInterrupt
    assert Checkpoints(tmp_path).newest().name == "checkpoint-5"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-5"]


def test_a_full_disk_is_told_in_words_and_the_last_checkpoint_stays(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    save(checkpoints, 5)
    for error in (OSError(errno.ENOSPC, "No space left on device"), RuntimeError("write failed: No space left on device")):
        with pytest.raises(StoreError, match=r"checkpoint-8: the disk is full; free some space and run the same command again"), \
                checkpoints.saving(8):  # fmt: skip
            raise error
    assert checkpoints.newest().name == "checkpoint-5"

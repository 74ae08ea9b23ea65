"""A disk that refuses weights is told in words, whichever library wrote."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from limits import files_of_at_most
from potstill.errors import StoreError
from potstill.models.saving import writing

WEIGHTS = {"a": torch.zeros(10_000)}
WRITERS: dict[str, Callable[[Path], object]] = {
    "safetensors": lambda path: save_file(WEIGHTS, path),
    "torch": lambda path: torch.save(WEIGHTS, path),
    "python": lambda path: path.write_bytes(b"0" * 40_000),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_that_is_larger_than_the_system_allows_is_told(writer: str, tmp_path: Path) -> None:
    with (
        files_of_at_most(10_000),
        pytest.raises(StoreError, match=r"weights: .*`ulimit -f` allows.* run the same command again"),
        writing(tmp_path / "weights"),
    ):
        WRITERS[writer](tmp_path / "weights")


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "the disk quota is used up")])
def test_what_the_system_says_is_read_off_safetensors_words(number: int, words: str, tmp_path: Path) -> None:
    from safetensors import SafetensorError

    with pytest.raises(StoreError, match=rf"best: {words}; free some space"), writing(tmp_path / "best"):
        raise SafetensorError(f"Error while serializing: I/O error: whatever (os error {number})")


def test_errors_that_are_not_of_the_disk_pass_through(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a bug"), writing(tmp_path / "x"):
        raise RuntimeError("a bug")

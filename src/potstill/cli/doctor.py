"""`potstill doctor`: what this machine can do, what is missing, and what to do about it."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from potstill.errors import PotstillError

Level = Literal["ok", "warning", "failure"]
_COLOURS: dict[Level, str] = {"ok": "green", "warning": "yellow", "failure": "red"}
_GIB = 2**30
_HUB_SECONDS = 4.0
_HUB_KEY = "HF_TOKEN"
# What local training cannot do without; the rest of an extra is missed only by those who use it.
_NEEDED_EXTRAS = {None: "failure", "train": "warning", "parquet": "warning"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: what was found, how bad it is, and what to do where it is not `ok`."""

    name: str
    level: Level
    found: str
    advice: str = ""


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False) -> None:
    """Look over this machine: what works, what is missing, what to do. Exits with 1 where something must be mended."""
    findings = [finding for look in LOOKS for finding in findings_of(look)]
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            typer.secho(f"{finding.level:<8}", fg=_COLOURS[finding.level], nl=False)
            typer.echo(f"{finding.name:<16}{finding.found}" + (f"; {finding.advice}" if finding.advice else ""))
    if any(finding.level == "failure" for finding in findings):
        raise typer.Exit(1)


def findings_of(look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What one look finds; one that cannot be had is a failure of its own, and the others go on."""
    try:
        yield from look()
    except (PotstillError, OSError) as error:
        yield Finding(look.__name__.removeprefix("look_at_").replace("_", " "), "failure", str(error), "mend that, and look again")


def look_at_python() -> Iterator[Finding]:
    """The interpreter's version."""
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info >= (3, 11):  # noqa: UP036 - the installer's own check can be switched off
        yield Finding("Python", "ok", found)
    else:
        yield Finding("Python", "failure", found, "Potstill needs 3.11 or newer: `make PYTHON=python3.12 install`")


def look_at_cores() -> Iterator[Finding]:
    """How many processors this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    advice = "training on one core is slow; choose a small student (`student.carve`)" if usable < 2 else ""
    yield Finding("cores", "warning" if usable < 2 else "ok", f"{usable} usable", advice)


def look_at_memory() -> Iterator[Finding]:
    """Main memory, where the system tells; a control group's limit counts."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        yield Finding("memory", "ok", "unknown on this system")
        return
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    total = min(total, int(text)) if text.isdigit() else total
    level: Level = "warning" if total < 4 * _GIB else "ok"
    advice = "the demo needs about 4 GiB; lower `training.micro_batch_size`" if level == "warning" else ""
    yield Finding("memory", level, f"{total / _GIB:.1f} GiB", advice)


def look_at_accelerators() -> Iterator[Finding]:
    """What torch can compute on, and graphics cards that it cannot use."""
    if importlib.util.find_spec("torch") is None:
        yield Finding("accelerators", "warning", "torch is not installed", "local models need it: `pip install 'potstill[train]'`")
        return
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        yield Finding("accelerators", "ok", ", ".join(names))
    elif torch.backends.mps.is_available():
        yield Finding("accelerators", "ok", "Apple GPU (mps)")
    elif shutil.which("nvidia-smi"):
        yield Finding("accelerators", "warning", "an NVIDIA driver, but torch cannot use it", "install a CUDA build of torch (pytorch.org)")
    else:
        yield Finding("accelerators", "ok", "none: the CPU computes")


def look_at_disk() -> Iterator[Finding]:
    """Free space where runs and models are kept, and whether both can be written."""
    from potstill.models.cache import cache_folder

    for name, folder in (("working folder", Path.cwd()), ("cache folder", cache_folder())):
        standing = next(place for place in (folder, *folder.parents) if place.exists())
        free = shutil.disk_usage(standing).free
        found = f"{free / _GIB:.1f} GiB free in {folder}"
        if not os.access(standing, os.W_OK | os.X_OK):
            cure = "set POTSTILL_CACHE to a folder" if name == "cache folder" else "work in a folder"
            yield Finding(name, "failure", f"{folder} cannot be written", f"{cure} that you may write to")
        elif free < 2 * _GIB:
            yield Finding(name, "warning", found, "a run with the embedded teacher takes about 2 GiB; free some space")
        else:
            yield Finding(name, "ok", found)


def look_at_packages() -> Iterator[Finding]:
    """Each package that Potstill names, with the version that is there and the one that is needed."""
    from importlib import metadata

    for requirement in metadata.requires("potstill") or ():
        name, least, extra = parse_requirement(requirement)
        level = _NEEDED_EXTRAS.get(extra)
        if level is None:
            continue
        install = f"pip install 'potstill[{extra}]'" if extra else "pip install potstill"
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding(name, "failure" if extra is None else "warning", "not installed", f"`{install}`")
            continue
        if _numbers(version) < _numbers(least):
            yield Finding(name, "failure", f"{version}, needs {least} or newer", f"`{install} --upgrade`")
        else:
            yield Finding(name, "ok", version)


def look_at_the_hub() -> Iterator[Finding]:
    """Whether the model hub answers; not asked where HF_HUB_OFFLINE says so."""
    import urllib.error
    import urllib.request
    from http.client import HTTPException

    # A mirror's address may carry a login, which belongs on no screen.
    address = re.sub(r"^(\w+://)?[^/?#]*@", r"\1", os.environ.get("HF_ENDPOINT", "https://huggingface.co"))
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        yield Finding("model hub", "ok", "not asked: HF_HUB_OFFLINE is set")
        return
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=_HUB_SECONDS).close()
    except urllib.error.HTTPError as error:
        yield Finding("model hub", "ok" if error.code < 500 else "warning", f"{address} answers with {error.code}")
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        cure = "the embedded teacher and model folders work without it; set HF_HUB_OFFLINE=1 to stop trying, or HF_ENDPOINT to a mirror"
        yield Finding("model hub", "warning", f"{address} cannot be reached ({reason})", cure)
    else:
        yield Finding("model hub", "ok", f"{address} answers")


def look_at_keys() -> Iterator[Finding]:
    """Which keys of the catalogue's endpoints and of the model hub are set: their names, never their values."""
    from potstill.models.catalogue import entries

    names = sorted({name for entry in entries().values() if (name := entry.api_key_env)} | {_HUB_KEY})
    there = [name for name in names if os.environ.get(name)]
    if there:
        yield Finding("keys", "ok", f"set: {', '.join(there)}")
    else:
        yield Finding("keys", "warning", "none is set", f"local teachers need none; others need one of {', '.join(names)}")


def look_at_the_compiler() -> Iterator[Finding]:
    """A C compiler, which torch.compile alone needs."""
    found = next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if found:
        yield Finding("C compiler", "ok", found)
    else:
        yield Finding("C compiler", "warning", "none found", "only compiled kernels need one: install gcc or clang to use them")


LOOKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    look_at_python,
    look_at_cores,
    look_at_memory,
    look_at_accelerators,
    look_at_disk,
    look_at_packages,
    look_at_the_hub,
    look_at_keys,
    look_at_the_compiler,
)


def parse_requirement(text: str) -> tuple[str, str, str | None]:
    """Name, least version and extra of a requirement in the shape of our own: `torch>=2.10; extra == "train"`."""
    name = re.match(r"[\w.-]+", text)
    least = re.search(r">=\s*([\w.]+)", text)
    extra = re.search(r"extra\s*==\s*['\"]([\w.-]+)['\"]", text)
    return name[0] if name else text, least[1] if least else "0", extra[1] if extra else None


def _numbers(version: str) -> tuple[int, ...]:
    release = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in release[0].split(".")) if release else ()

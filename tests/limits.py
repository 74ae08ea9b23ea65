"""Limits that the system sets to a process, for the time of a block: no need for a full disk, or for another user."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from collections.abc import Iterator
from pathlib import Path

# linux/capability.h
_VERSION_3 = 0x20080522
_DAC_OVERRIDE = 1 << 1


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: writing goes wrong in the middle, as on a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """This thread may not write into `folder`, not even root's."""
    mode = folder.stat().st_mode
    folder.chmod(0o500)
    try:
        with _bound_by_modes() if os.geteuid() == 0 else contextlib.nullcontext():
            assert not os.access(folder, os.W_OK, effective_ids=True)
            yield
    finally:
        folder.chmod(mode)


@contextlib.contextmanager
def _bound_by_modes() -> Iterator[None]:
    """Root gives up the capability that lets it write where the mode forbids it."""
    libc = ctypes.CDLL(None)
    header, sets = (ctypes.c_uint32 * 2)(_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    effective = sets[0]
    sets[0] = effective & ~_DAC_OVERRIDE
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = effective
        assert libc.capset(header, sets) == 0

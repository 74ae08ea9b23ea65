"""One file of cached targets: some rows' keys and packed arrays, written whole or not at all, and mapped into memory to be read.

A shard is a safetensors file, so that other programs can read it. Besides the packed arrays it holds `keys` (R, 16), `counts` (R,), the
`cache` that it belongs to (32 hex digits) and two `checksums` (CRC-32): of these three, and of the packed arrays.
"""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.errors import ModelError
from potstill.models.folder import read_header
from potstill.store.atomic import damaged, write_atomic
from potstill.training.targets.packing import Arrays

KEY_BYTES = 16
_INDEX = ("cache", "counts", "keys")
_DTYPES = {"U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "I32": np.int32, "F16": np.float16, "F32": np.float32}


@dataclass(frozen=True)
class Shard:
    """R rows of a cache: their keys, where each one's positions begin among the shard's (R + 1), and the packed arrays."""

    path: Path
    keys: tuple[bytes, ...]
    starts: NDArray[np.int64]
    arrays: Arrays

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size

    def prove(self) -> None:
        """Raise StoreError where the packed arrays are not what was written: all of them are read."""
        if int(self.arrays["checksums"][1]) != _checksums(self.arrays)[1]:
            raise damaged(self.path)


def write_shard(path: Path, cache: str, keys: Sequence[bytes], counts: Sequence[int], packed: Arrays) -> None:
    """Write one shard. Raises StoreError where it cannot be written; nothing stands at `path` then."""
    from safetensors.numpy import save

    arrays = {
        **packed,
        "keys": np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), KEY_BYTES),
        "counts": np.array(counts, dtype=np.int32),
        "cache": np.frombuffer(cache.encode(), dtype=np.uint8),
    }
    arrays["checksums"] = np.array(_checksums(arrays), dtype=np.uint32)
    with write_atomic(path, "wb") as file:
        file.write(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def read_shard(path: Path, cache: str) -> Shard:
    """A shard of `cache`, its arrays mapped, not read. Raises StoreError where the file is cut off, or of another cache."""
    try:
        header = read_header(path)
    except ModelError:
        raise damaged(path) from None
    with open(path, "rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    begin = 8 + int.from_bytes(content[:8], "little")
    arrays = {
        name: np.frombuffer(content, _DTYPES[entry["dtype"]], int(np.prod(entry["shape"])), begin + entry["data_offsets"][0]).reshape(
            entry["shape"]
        )
        for name, entry in header.items()
    }
    if not arrays.keys() >= {*_INDEX, "checksums"} or arrays["cache"].tobytes() != cache.encode():
        raise damaged(path)
    if int(arrays["checksums"][0]) != _checksum(arrays, _INDEX):
        raise damaged(path)
    keys = arrays["keys"].tobytes()
    starts = np.concatenate([[0], np.cumsum(arrays["counts"], dtype=np.int64)])
    return Shard(path, tuple(keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)), starts, arrays)


def _checksums(arrays: Arrays) -> tuple[int, int]:
    return _checksum(arrays, _INDEX), _checksum(arrays, set(arrays) - {*_INDEX, "checksums"})


def _checksum(arrays: Arrays, names: Iterable[str]) -> int:
    found = 0
    for name in sorted(names):
        found = zlib.crc32(np.ascontiguousarray(arrays[name]).view(np.uint8).data, found)
    return found

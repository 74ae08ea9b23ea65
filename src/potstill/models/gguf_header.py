"""The head of a GGUF file, read without torch: its settings, how many weights it holds, and whether the file is whole.

Source of the layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill.errors import ModelError

Value = int | float | bool | str

# Number in the file -> format of `struct`. 8 is text, 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_VERSIONS = (2, 3)
_ALIGNMENT = 32

_PLAIN = {0: (1, 4), 1: (1, 2), 30: (1, 2)}
_QUANTISED = {2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34)}
_QUANTISED_K = {10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210)}
BLOCKS = _PLAIN | _QUANTISED | _QUANTISED_K
"""Weights and bytes of a block, by the number of a tensor's format: F32, F16, BF16, Q4_0 to Q8_0, Q2_K to Q6_K."""


@dataclass(frozen=True)
class GgufHeader:
    """`settings` are the file's own, an array's value its length; `parameters` counts the weights of all tensors."""

    settings: dict[str, Value]
    parameters: int

    @property
    def architecture(self) -> str:
        """What many settings are named after, as `llama.block_count`."""
        return str(self.settings.get("general.architecture"))


def read_gguf_header(path: Path) -> GgufHeader:
    """The head of a GGUF file. Raises ModelError where it is no such file, or cut off."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(path, data)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    except (struct.error, ValueError, KeyError, ZeroDivisionError, OverflowError):
        raise ModelError(f"{path}: is not a GGUF file, or damaged; copy or download it again") from None


def _read(path: Path, data: mmap.mmap) -> GgufHeader:
    cursor = _Cursor(data)
    magic, version, tensors, pairs = cursor.take("<4sIQQ")
    if magic != b"GGUF" or version not in _VERSIONS:
        raise ValueError("no GGUF of a version that is known")
    settings = {cursor.text(): cursor.value() for _ in range(pairs)}
    parameters = end = 0
    for _ in range(tensors):
        cursor.text()
        [dimensions] = cursor.take("<I")
        *sizes, kind, offset = cursor.take(f"<{dimensions}QIQ")
        weights_a_block, bytes_a_block = BLOCKS.get(kind, (1, 0))
        parameters += math.prod(sizes)
        end = max(end, offset + math.prod(sizes) // weights_a_block * bytes_a_block)
    alignment = int(settings.get("general.alignment", _ALIGNMENT))
    needed = math.ceil(cursor.place / alignment) * alignment + end
    if tensors and len(data) < needed:
        raise ModelError(f"{path}: is cut off: {len(data):,} bytes of {needed:,} are there; copy or download it again")
    return GgufHeader(settings, parameters)


class _Cursor:
    def __init__(self, data: mmap.mmap) -> None:
        self.place = 0
        self._data = data

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from(layout, self._data, self.place)
        self.place += struct.calcsize(layout)
        return values

    def text(self) -> str:
        [length] = self.take("<Q")
        [raw] = self.take(f"<{length}s")
        return str(raw, "utf-8", "replace")

    def value(self) -> Value:
        [kind] = self.take("<I")
        if kind == _TEXT:
            return self.text()
        if kind != _ARRAY:
            found: Value = self.take(f"<{_SCALARS[kind]}")[0]
            return found
        inner, count = self.take("<IQ")
        self._skip(inner, count)
        return int(count)

    def _skip(self, kind: int, count: int) -> None:
        if kind != _TEXT:
            self.place += count * struct.calcsize(f"<{_SCALARS[kind]}")
            return
        for _ in range(count):
            [length] = struct.unpack_from("<Q", self._data, self.place)
            self.place += 8 + length

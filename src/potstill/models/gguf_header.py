"""The header of a GGUF file, read without torch: is the file whole, what is in it, how many weights.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill.errors import ModelError

_VERSIONS = (2, 3)
# The kinds of metadata values that have a fixed size, as `struct` names them.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _ARRAY = 8, 9
_ALIGNMENT = 32
_MOST_DIMENSIONS = 4


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a GGUF file says of its model; None where it does not."""

    parameters: int
    context: int | None
    layers: int | None
    has_template: bool


def read_gguf_header(path: Path) -> GgufHeader:
    """The header of the GGUF file at `path`. Raises ModelError where it is none, or where a part of the file is missing."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read(path, data)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    except struct.error:
        size = path.stat().st_size
        raise ModelError(f"{path}: is cut off: its header goes on after its {size:,} bytes; copy or download it again") from None
    except ModuleNotFoundError:
        raise ModelError(f"{path}: GGUF files need an extra: pip install 'potstill[train]'") from None
    except (ValueError, LookupError, TypeError, ArithmeticError):
        raise ModelError(f"{path}: is not a GGUF file, or damaged; copy or download it again") from None


def _read(path: Path, data: mmap.mmap) -> GgufHeader:
    if data[:4] != b"GGUF":
        raise ValueError
    cursor = _Cursor(data, 4)
    [version] = cursor.numbers("I")
    if version not in _VERSIONS:
        raise ModelError(f"{path}: is GGUF version {version}; versions 2 and 3 can be read: convert it anew with llama.cpp")
    tensors, entries = cursor.numbers("QQ")
    found = {cursor.text(): cursor.value() for _ in range(entries)}
    shapes, end = [], 0
    for _ in range(tensors):
        shape, ends = cursor.tensor()
        shapes.append(shape)
        end = max(end, ends)
    alignment = found.get("general.alignment", _ALIGNMENT)
    needed = math.ceil(cursor.place / alignment) * alignment + end if tensors else cursor.place
    if len(data) < needed:
        raise ModelError(f"{path}: is cut off: {len(data):,} bytes of {needed:,} are there; copy or download it again")
    kind = found.get("general.architecture")
    return GgufHeader(
        parameters=sum(map(math.prod, shapes)),
        context=found.get(f"{kind}.context_length"),
        layers=found.get(f"{kind}.block_count"),
        has_template=bool(found.get("tokenizer.chat_template")),
    )


class _Cursor:
    """Reads one thing after the other; struct.error where the file ends before it."""

    def __init__(self, data: mmap.mmap, place: int) -> None:
        self._data = data
        self.place = place

    def numbers(self, kinds: str) -> tuple[Any, ...]:
        layout = f"<{kinds}"
        found = struct.unpack_from(layout, self._data, self.place)
        self.place += struct.calcsize(layout)
        return found

    def text(self) -> str:
        start = self._skip_text()
        return self._data[start : self.place].decode("utf-8")

    def value(self) -> Any:
        """A metadata value; None for an array, which is passed over."""
        [kind] = self.numbers("I")
        if kind == _TEXT:
            return self.text()
        if kind == _ARRAY:
            return self._skip_array()
        [number] = self.numbers(_NUMBERS[kind])
        return number

    def tensor(self) -> tuple[tuple[int, ...], int]:
        """A tensor's shape, and where it ends after the header."""
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        self._skip_text()
        [dimensions] = self.numbers("I")
        if dimensions > _MOST_DIMENSIONS:
            raise ValueError
        shape = self.numbers("Q" * dimensions)
        kind, offset = self.numbers("IQ")
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
        return shape, offset + math.prod(shape) // block * size

    def _skip_text(self) -> int:
        [length] = self.numbers("Q")
        start = self.place
        self._skip(length)
        return start

    def _skip_array(self) -> None:
        kind, count = self.numbers("IQ")
        if kind != _TEXT:
            self._skip(count * struct.calcsize(_NUMBERS[kind]))
            return
        for _ in range(count):
            self._skip_text()

    def _skip(self, size: int) -> None:
        self.place += size
        if self.place > len(self._data):
            raise struct.error

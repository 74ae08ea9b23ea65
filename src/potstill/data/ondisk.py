"""Rows on disk that behave like a list: a file of normalised JSONL, and where each line begins and ends."""

from __future__ import annotations

import json
import os
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, overload

import numpy as np
from numpy.typing import NDArray

from potstill.records import Example
from potstill.store.atomic import store_error

IntArray = NDArray[np.int64]

_BLOCK = 1 << 20


class _OpenFile:
    """A descriptor that is closed when the last dataset on it is gone."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)


class Dataset(Sequence[Example]):
    """Rows read from disk when they are asked for: 16 bytes of memory a row, whatever its length.

    `Dataset(path)` opens a file that Potstill wrote (one `Example.to_json` a line), `Dataset.of` writes rows to a private
    temporary file, and `load_dataset` reads any other file. A slice, or `select`, is a view of the same file.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = _OpenFile(os.open(path, os.O_RDONLY))
            offsets = _line_offsets(self._file)
        except OSError as error:
            raise store_error(path, error) from None
        self._starts, self._ends = offsets[:-1], offsets[1:]

    @classmethod
    def of(cls, rows: Iterable[Example]) -> Dataset:
        """The rows in a private temporary file, which vanishes with the dataset."""
        writer = DatasetWriter()
        for row in rows:
            writer.add(row)
        return writer.dataset()

    @classmethod
    def _over(cls, file: _OpenFile, starts: IntArray, ends: IntArray) -> Dataset:
        self = cls.__new__(cls)
        self._file, self._starts, self._ends = file, starts, ends
        return self

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Dataset: ...
    def __getitem__(self, index: int | slice) -> Example | Dataset:
        if isinstance(index, slice):
            return Dataset._over(self._file, self._starts[index], self._ends[index])
        return Example.from_json(json.loads(self._line(index)))

    def __iter__(self) -> Iterator[Example]:
        return (Example.from_json(json.loads(line)) for line in self.lines())

    def select(self, rows: Sequence[int] | IntArray | NDArray[np.bool_]) -> Dataset:
        """The rows at these positions, in this order (or where a mask is true)."""
        chosen = np.asarray(rows)
        chosen = chosen if len(chosen) else chosen.astype(np.int64)
        return Dataset._over(self._file, self._starts[chosen], self._ends[chosen])

    def lines(self) -> Iterator[bytes]:
        """Each row as it stands on disk, line end included."""
        return (self._line(index) for index in range(len(self)))

    def _line(self, index: int) -> bytes:
        start, end = int(self._starts[index]), int(self._ends[index])
        return os.pread(self._file.descriptor, end - start, start)


class DatasetWriter:
    """Writes rows one by one to a private temporary file, and hands them back as a Dataset.

    The file has no name: it vanishes when nobody reads it any more, however the process ends. `folder` is where its bytes
    are stored (none: the system's temporary folder).
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._offsets = array("q", [0])
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, buffering=_BLOCK)  # noqa: SIM115 (closed by `dataset`)
        except OSError as error:
            raise store_error(folder or tempfile.gettempdir(), error) from None

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def add(self, row: Example) -> None:
        """One more row. Raises StoreError where the disk is full."""
        line = json.dumps(row.to_json(), ensure_ascii=False).encode() + b"\n"
        self._offsets.append(self._offsets[-1] + len(line))
        try:
            self._file.write(line)
        except OSError as error:
            raise store_error(self._folder or tempfile.gettempdir(), error) from None

    def dataset(self) -> Dataset:
        """What was written; nothing can be added after."""
        try:
            self._file.flush()
            file = _OpenFile(os.dup(self._file.fileno()))
            self._file.close()
        except OSError as error:
            raise store_error(self._folder or tempfile.gettempdir(), error) from None
        offsets = np.frombuffer(self._offsets, dtype=np.int64)
        return Dataset._over(file, offsets[:-1], offsets[1:])


def _line_offsets(file: _OpenFile) -> IntArray:
    found = [np.zeros(1, dtype=np.int64)]
    position = 0
    while block := os.pread(file.descriptor, _BLOCK, position):
        found.append(np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n")) + (position + 1))
        position += len(block)
    offsets = np.concatenate(found)
    return offsets if offsets[-1] == position else np.append(offsets, position)

"""Sums of statistics over drawn units, for many columns and many resamples at once.

Whole numbers are summed in float32 where no sum reaches 2²⁴, which float32 holds exactly; all else in float64.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_COUNTS_CELLS = 2**21
"""A matrix of statistics is read from memory once for so many counts (of 16 resamples, with 100,000 kinds)."""
_TOTALS_CELLS = 2**22
_EXACT = 2**24
_BROAD = 50
"""Counting the units of each row of a table first costs as much as summing so many statistics of every unit (1.6 ns a unit)."""

Coded = tuple[IntArray, IntArray]
"""Which different row each row equals (kinds,), and where each different one comes first."""


def float_type(statistics: FloatArray, units: int) -> type[np.float32 | np.float64]:
    """The narrowest type in which no sum of `units` statistics is rounded, else float64."""
    exact = units * np.abs(statistics).max(initial=1.0) < _EXACT and (statistics == np.rint(statistics)).all()
    return np.float32 if exact else np.float64


def is_broad(width: int) -> bool:
    """Whether a column of so many statistics is summed by way of its different rows."""
    return width > _BROAD


class Sums:
    """Sums over drawn units; a statistic that several columns share (their count of rows) is summed once.

    So equal columns have equal sums, to the bit, and a system over itself is exactly 1.
    """

    def __init__(self, tables: Iterable[tuple[FloatArray, Coded]], units: int) -> None:
        """`tables`: for each column the statistics (kinds, s) of a unit of each kind, and which kinds have the same."""
        self._shared, self._tables = _Shared(), list[_Table]()
        found: list[tuple[_Table | None, list[int]]] = []
        for statistics, (codes, first) in tables:
            if is_broad(statistics.shape[1]) and len(first) * 4 < len(codes):
                self._tables.append(_Table.of(statistics[first], codes, units))
                found.append((self._tables[-1], list(range(statistics.shape[1]))))
            else:
                found.append((None, [self._shared.place(one) for one in statistics.T]))
        self._shared.settle(units)
        self._dtype = np.result_type(np.float32 if units < _EXACT else np.float64, self._shared.dtype)
        ends = np.cumsum([self._shared.width, *(table.rows.shape[1] for table in self._tables)])
        starts = {id(table): end for table, end in zip(self._tables, ends, strict=False)}
        self.places = [np.array(places) + (0 if table is None else starts[id(table)]) for table, places in found]
        """For each column, which of the totals are its own (s,)."""

    def blocks(self, drawn: Iterable[IntArray]) -> Iterator[NDArray[Any]]:
        """Counts (a few resamples, kinds) as `totals` takes them: more of them together, in the type that they are summed in."""
        return _gather(drawn, _COUNTS_CELLS, self._dtype)

    def totals(self, blocks: Iterable[NDArray[Any]]) -> Iterator[FloatArray]:
        """(some resamples, all statistics) at a time."""
        return _gather(map(self._sums, blocks), _TOTALS_CELLS, np.dtype(np.float64))

    def _sums(self, counts: NDArray[Any]) -> FloatArray:
        parts = [self._shared.sums(counts)] if self._shared.width else []
        return np.concatenate([*parts, *(table.sums(counts) for table in self._tables)], axis=1, dtype=np.float64)


def _gather(arrays: Iterable[NDArray[Any]], cells: int, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """The same rows, so many together that they have at least `cells` cells."""
    waiting: list[Any] = []
    size = 0
    for array in arrays:
        waiting.append(array)
        size += array.size
        if size >= cells:
            yield np.concatenate(waiting, dtype=dtype)
            waiting, size = [], 0
    if waiting:
        yield np.concatenate(waiting, dtype=dtype)


class _Shared:
    """Different statistics of every kind, each kept once."""

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}
        self._found: list[FloatArray] = []
        self._stacked: NDArray[Any] = np.empty((0, 0), dtype=np.float32)

    @property
    def width(self) -> int:
        return len(self._places)

    def place(self, statistic: FloatArray) -> int:
        """Where `statistic` (kinds,) stands among the different ones."""
        place = self._places.setdefault(hashlib.sha256(statistic.tobytes()).digest(), len(self._found))
        if place == len(self._found):
            self._found.append(statistic.copy())
        return place

    def settle(self, units: int) -> None:
        """There are no more of them."""
        if self._found:
            dtype = np.result_type(*(float_type(one, units) for one in self._found))
            self._stacked = np.stack(self._found, axis=1, dtype=dtype, casting="same_kind")
            self._found.clear()

    @property
    def dtype(self) -> np.dtype[Any]:
        """In which type they are summed."""
        return self._stacked.dtype

    def sums(self, counts: NDArray[Any]) -> NDArray[Any]:
        """(resamples, width) of counts (resamples, kinds)."""
        return np.asarray(counts @ self._stacked)


@dataclass(frozen=True, slots=True)
class _Table:
    """One column of many statistics, of which there are few different rows (p, s): how often each row is drawn comes first."""

    rows: NDArray[Any]
    order: IntArray
    starts: IntArray

    @classmethod
    def of(cls, rows: FloatArray, codes: IntArray, units: int) -> _Table:
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(len(rows)))
        return cls(rows.astype(float_type(rows, units)), order, starts)

    def sums(self, counts: NDArray[Any]) -> NDArray[Any]:
        """(resamples, s) of counts (resamples, kinds)."""
        drawn = np.add.reduceat(np.take(counts, self.order, axis=1), self.starts, axis=1)
        return np.asarray(drawn.astype(self.rows.dtype) @ self.rows)

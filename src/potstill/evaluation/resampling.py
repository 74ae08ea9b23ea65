"""Draws with replacement, and what sums of row statistics come to in them: the bootstrap's inner loop.

A metric is a value of sums of additive row statistics, so a resample is a vector of counts (how often each unit was drawn) and its figure
is `value(counts @ statistics)`. One set of draws serves every column, so that differences and ratios are paired.

Nothing here approximates. Units whose statistics agree in every column are drawn as one, by their number (a multinomial draw of n units
counts by kinds in the same distribution as unit by unit); sums of whole numbers below 2²⁴ are taken in float32, which holds them exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from potstill.evaluation.sums import BoolArray, FloatArray, IntArray, Sums, is_broad

Item = TypeVar("Item")
Found = TypeVar("Found")

CHUNK_CELLS = 2**17
"""Counts in memory at once: 1 MB, which a core's second-level cache holds."""
_WORTH_A_THREAD = 10**7
"""Draws of units: a tenth of a second."""
_MANY = 25
"""Drawing how often one of so many equal units comes costs as much as drawing each of them (75 ns against 3)."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How intervals are made: `resamples` draws from `seed`, cut at the tails beyond `confidence`."""

    resamples: int = 10_000
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Column:
    """Figures to resample: `value` turns sums (..., s) of additive row statistics into figures (...).

    `statistics` (p, s) are those of the different rows; `codes` (n,) says which of them each of the n rows has, -1 for a row that does not
    count. Without codes the rows of `statistics` are the rows. `members` (n, k): which of k slices each row is in; there is a figure for
    each slice then.
    """

    statistics: FloatArray
    value: Callable[[FloatArray], FloatArray]
    codes: IntArray | None = None
    members: BoolArray | None = None

    @property
    def rows(self) -> IntArray:
        """(n,) the codes, written out."""
        return np.arange(len(self.statistics)) if self.codes is None else self.codes

    def totals(self) -> FloatArray:
        """(s,) or (k, s) sums over all rows as they are."""
        whole = np.ones((len(self.rows), 1), dtype=bool) if self.members is None else self.members
        counts = [np.bincount(self.rows[inside & (self.rows >= 0)], minlength=len(self.statistics)) for inside in whole.T]
        found: FloatArray = np.stack(counts) @ self.statistics
        return found[0] if self.members is None else found

    def figures(self) -> FloatArray:
        """The figures () or (k,) over all rows as they are; not a number where undefined."""
        return quiet(self.value, self.totals())

    def figure(self) -> float:
        """The one figure of a column without slices."""
        return float(self.figures())


def number(things: Sequence[Hashable]) -> tuple[IntArray, IntArray]:
    """The number (0, 1, ...) of each thing, equal things having one, in order of appearance; and where each number came first."""
    found = {thing: place for place, thing in enumerate(dict.fromkeys(things))}
    codes = np.fromiter(map(found.__getitem__, things), dtype=np.int64, count=len(things))
    first = np.empty(len(found), dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    return codes, first


def resample_figures(columns: Sequence[Column], clusters: IntArray, settings: Bootstrap, *, chunk_cells: int = CHUNK_CELLS) -> FloatArray:
    """Figures (resamples, columns) of columns without slices, as `resample` draws them."""
    return np.stack(resample(columns, clusters, settings, chunk_cells=chunk_cells), axis=1)


def resample(columns: Sequence[Column], clusters: IntArray, settings: Bootstrap, *, chunk_cells: int = CHUNK_CELLS) -> list[FloatArray]:
    """Figures (resamples,) or (resamples, k) of each column, of rows drawn with replacement; the draws are the same for all columns.

    `clusters` (n,) says which rows are drawn together. Not a number where a figure is undefined in a resample. Memory does not grow with
    `resamples` times n, and the draws do not depend on `chunk_cells`.
    """
    return _resample(columns, [units_of(column, clusters) for column in columns], settings, chunk_cells)


@dataclass(frozen=True, slots=True)
class Study(Generic[Found]):
    """Figures to resample, and what follows from their draws."""

    columns: Sequence[Column]
    conclude: Callable[[list[FloatArray]], Found]


def conduct(studies: Sequence[Study[Any]], clusters: IntArray, settings: Bootstrap) -> list[Any]:
    """What follows from each study of the same rows. Studies share their draws where one set is less work than two."""
    by_unit = [[units_of(column, clusters) for column in study.columns] for study in studies]
    together: list[tuple[list[int], float]] = []
    for place in (place for place, study in enumerate(studies) if study.columns):
        own = _work(by_unit[place])
        for position, (others, work) in enumerate(together):
            joint = _work([one for other in (*others, place) for one in by_unit[other]])
            if joint <= work + own:
                together[position] = ([*others, place], joint)
                break
        else:
            together.append(([place], own))
    found: dict[int, Any] = {place: study.conclude([]) for place, study in enumerate(studies) if not study.columns}
    for places, _ in together:
        columns = [column for place in places for column in studies[place].columns]
        draws = iter(_resample(columns, [one for place in places for one in by_unit[place]], settings, CHUNK_CELLS))
        found |= {place: studies[place].conclude(list(islice(draws, len(studies[place].columns)))) for place in places}
    return [found[place] for place in range(len(studies))]


def _work(columns: Sequence[Units]) -> float:
    """What a resample costs, roughly, in nanoseconds: drawing units, and summing their statistics."""
    kinds, first = kinds_of(columns)
    drawn, widths = int(np.minimum(np.bincount(kinds), _MANY).sum()), [math.prod(one.shape) for one in columns]
    return 3.0 * drawn + len(first) * sum(1.6 if is_broad(width) else 0.04 * width for width in widths)


def _resample(columns: Sequence[Column], by_unit: Sequence[Units], settings: Bootstrap, chunk_cells: int) -> list[FloatArray]:
    kinds, first = kinds_of(by_unit)
    sums = Sums(((one.of(first), number(_as_bytes(one.traits[first]))) for one in by_unit), len(kinds))
    blocks = sums.blocks(_draw_counts(kinds, len(first), settings, chunk_cells))
    drawn = _ahead(blocks) if len(kinds) * settings.resamples > _WORTH_A_THREAD else blocks
    parts: list[list[FloatArray]] = [[] for _ in columns]
    for totals in sums.totals(drawn):
        for part, column, one, places in zip(parts, columns, by_unit, sums.places, strict=True):
            part.append(quiet(column.value, totals[:, places].reshape(len(totals), *one.shape)))
    return [np.concatenate(part) for part in parts]


def quiet(value: Callable[[FloatArray], FloatArray], totals: FloatArray) -> FloatArray:
    """Figures of sums, without a warning where they are undefined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(value(totals), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Units:
    """A column unit by unit: different statistics (p, s), which of them each unit has, and its slices where those do not hold them."""

    statistics: FloatArray
    codes: IntArray
    members: BoolArray | None
    shape: tuple[int, ...]

    @property
    def traits(self) -> NDArray[np.int32]:
        """(units, traits): units that agree in them have the same statistics."""
        codes = self.codes.astype(np.int32)[:, None]
        if self.members is None:
            return codes
        return np.concatenate([codes, number(_as_bytes(self.members))[0].astype(np.int32)[:, None]], axis=1)

    def of(self, chosen: IntArray) -> FloatArray:
        """(chosen, s) statistics of the chosen units; with slices (chosen, k · s)."""
        found = self.statistics[self.codes[chosen]]
        if self.members is not None:
            found = self.members[chosen][:, :, None] * found[:, None, :]
        return found.reshape(len(chosen), -1)


def units_of(column: Column, clusters: IntArray) -> Units:
    """The column's statistics summed by cluster."""
    units = int(clusters.max()) + 1
    width, slices = column.statistics.shape[1], 0 if column.members is None else column.members.shape[1]
    shape = (slices, width) if slices else (width,)
    if units < len(clusters):
        sums = _sums_by_unit(column, clusters, units).reshape(units, -1)
        codes, first = number(_as_bytes(sums))
        return Units(sums[first], codes, None, shape)
    # What does not count adds nothing: code -1 finds the row of zeros at the end.
    statistics = np.vstack([column.statistics, np.zeros((1, width))])
    codes, first = number(_as_bytes(statistics))
    return Units(statistics[first], codes[column.rows], column.members, shape)


def kinds_of(columns: Sequence[Units]) -> tuple[IntArray, IntArray]:
    """The kind (0, 1, ...) of each unit, units of a kind agreeing in every column, and the first unit of each kind."""
    return number(_as_bytes(np.concatenate([one.traits for one in columns], axis=1)))


def _sums_by_unit(column: Column, clusters: IntArray, units: int) -> FloatArray:
    """(units, k, s) sums of the statistics of each unit's rows, in each of k slices; k is 1 without any."""
    rows = column.rows
    whole = np.ones((len(rows), 1), dtype=bool) if column.members is None else column.members
    counted = [inside & (rows >= 0) for inside in whole.T]
    sums = [
        [np.bincount(clusters[inside], weights=statistic[rows[inside]], minlength=units) for statistic in column.statistics.T]
        for inside in counted
    ]
    return np.stack([np.stack(one, axis=1) for one in sums], axis=1)


def _as_bytes(rows: NDArray[Any]) -> list[bytes]:
    whole = np.ascontiguousarray(rows)
    found: Any = whole.view(np.dtype((np.void, whole.itemsize * whole.shape[1]))).ravel().tolist()
    return list(found)


def _draw_counts(kinds: IntArray, count: int, settings: Bootstrap, chunk_cells: int) -> Iterator[IntArray]:
    """How often units of each of `count` kinds are drawn, (some resamples, count) at a time; `kinds` (units,) is the kind of each unit.

    Of kinds with many units the number is drawn, of the others each unit. Both generators go from resample to resample.
    """
    units, sizes = len(kinds), np.bincount(kinds, minlength=count)
    large = np.flatnonzero(sizes >= _MANY)
    others = kinds[sizes[kinds] < _MANY]
    shares = np.append(sizes[large], [len(others)] if len(others) else []) / units
    by_number, by_unit = np.random.default_rng([settings.seed, 1]), np.random.default_rng(settings.seed)
    at_once = max(1, chunk_cells // count)
    for start in range(0, settings.resamples, at_once):
        chunk = min(at_once, settings.resamples - start)
        numbers = by_number.multinomial(units, shares, size=chunk) if len(large) else np.full((chunk, 1), units)
        left = numbers[:, len(large) :].sum(axis=1)
        drawn = by_unit.integers(0, len(others), size=left.sum()) if len(others) else np.empty(0, dtype=np.int64)
        places = drawn if count == units else others[drawn]
        if chunk > 1:
            places += np.repeat(np.arange(chunk) * count, left)
        counts = np.bincount(places, minlength=chunk * count).reshape(chunk, count)
        counts[:, large] = numbers[:, : len(large)]
        yield counts


def _ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The items, each made in a second thread while the one before is in use."""
    with ThreadPoolExecutor(max_workers=1) as threads:
        waiting = threads.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = threads.submit(next, items, None)
            yield item

"""Whether two systems differ on the same rows: the probability of a difference as large where it is chance who said what.

McNemar's test for right and wrong (McNemar 1947, Psychometrika 12; exact, from the binomial distribution, however many rows differ). For
other metrics an exchange of the two systems' answers row by row (approximate randomization: Noreen 1989; Riezler & Maxwell 2005), which is
McNemar's test where rows are right or wrong. Where rows are grouped, whole groups are exchanged, because their rows do not err alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from potstill.evaluation.compare import SFT, STUDENT, Scored
from potstill.evaluation.resampling import Bootstrap, Column, kinds_of, number, quiet, units_of
from potstill.evaluation.sums import FloatArray, IntArray, float_type

_CELLS = 2**20
_MANY = 64
"""Drawing how many of so many equal units are exchanged costs less than a coin for each."""
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class PairedTest:
    """`p`, two-sided, of n pairs (rows, or groups of rows)."""

    method: Literal["mcnemar", "permutation"]
    p: float
    n: int

    def to_json(self) -> dict[str, Any]:
        """The test as `scores.json` holds it."""
        return {"method": self.method, "p": self.p, "n": self.n}


def compare_pairs(scored: Scored, clusters: IntArray, settings: Bootstrap) -> dict[str, dict[str, PairedTest]]:
    """The student, and the plain one beside it, each against every other system; each pair is tested once."""
    pairs = [
        (system, other)
        for system in (STUDENT, SFT)
        for other in scored.columns
        if system in scored.columns and other != system and (system, other) != (SFT, STUDENT)
    ]
    tested = paired_tests([(scored.columns[system], scored.columns[other]) for system, other in pairs], clusters, settings)
    found: dict[str, dict[str, PairedTest]] = {}
    for (system, other), test in zip(pairs, tested, strict=True):
        found.setdefault(system, {})[other] = test
    return found


def pairs_to_json(tests: Mapping[str, Mapping[str, Mapping[str, PairedTest]]]) -> dict[str, Any]:
    """Tests by metric, system and other system, as `scores.json` holds them."""
    return {
        metric: {system: {other: test.to_json() for other, test in against.items()} for system, against in systems.items()}
        for metric, systems in tests.items()
    }


def paired_tests(pairs: Sequence[tuple[Column, Column]], clusters: IntArray, settings: Bootstrap) -> list[PairedTest]:
    """The test that fits two columns of the same n rows, which `clusters` (n,) puts in groups, for each pair of columns of one metric."""
    units = int(clusters.max()) + 1
    if units == len(clusters) and all(_right_or_wrong(column) for pair in pairs for column in pair):
        return [PairedTest("mcnemar", _mcnemar_of(*pair), units) for pair in pairs]
    exchanges = [_Exchange.of(first, second, clusters) for first, second in pairs]
    few = {place: one.p_of_all() for place, one in enumerate(exchanges) if 2 ** min(one.differ, 62) <= settings.resamples}
    others = [place for place in range(len(pairs)) if place not in few]
    # Pairs of means are exchanged by the same coins: a sum a pair is little beside drawing them. Broad statistics have kinds of their own.
    means = bool(pairs) and pairs[0][0].statistics.shape[1] == 2
    together = [others] if means and others else [[place] for place in others]
    drawn = {
        place: p for places in together for place, p in zip(places, _p_of_some([exchanges[one] for one in places], settings), strict=True)
    }
    return [PairedTest("permutation", (few | drawn)[place], units) for place in range(len(pairs))]


def mcnemar(first_alone: int, second_alone: int) -> float:
    """Two-sided exact p of so many rows that one system alone has right, where either is as likely."""
    differ, fewer = first_alone + second_alone, min(first_alone, second_alone)
    place = np.arange(1, fewer + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log((differ - place + 1) / place))]) - differ * math.log(2)
    return min(1.0, 2.0 * float(np.exp(logs).sum()))


def _right_or_wrong(column: Column) -> bool:
    """A mean whose rows score 0 or 1."""
    statistics = column.statistics
    return statistics.shape[1] == 2 and bool(np.isin(statistics[:, 0], (0.0, 1.0)).all() and (statistics[:, 1] == 1.0).all())


def _mcnemar_of(first: Column, second: Column) -> float:
    right, other = (column.statistics[column.rows, 0] > 0 for column in (first, second))
    return mcnemar(int((right & ~other).sum()), int((other & ~right).sum()))


@dataclass(frozen=True, slots=True)
class _Exchange:
    """Two systems' totals (s,), and the step (units, s) that exchanging a unit's answers takes the first one's by.

    `steps` (k, s) are the different ones, `codes` (units,) says which of them each unit has.
    """

    value: Callable[[FloatArray], FloatArray]
    totals: tuple[FloatArray, FloatArray]
    steps: FloatArray
    codes: IntArray

    @classmethod
    def of(cls, first: Column, second: Column, clusters: IntArray) -> _Exchange:
        own, other = units_of(first, clusters), units_of(second, clusters)
        codes, places = kinds_of([own, other])
        return cls(first.value, (first.totals(), second.totals()), other.of(places) - own.of(places), codes)

    @property
    def differ(self) -> int:
        """How many units have a step."""
        return int((self.steps != 0).any(axis=1)[self.codes].sum())

    def larger(self, moved: FloatArray) -> int:
        """In how many of these sums (..., s) of steps the difference is as large as it is without any."""
        found = abs(float(self._difference(np.zeros(self.steps.shape[1]))))
        rounding = _ROUNDING * max(1.0, abs(float(quiet(self.value, self.totals[0]))))
        return int((np.abs(self._difference(moved)) >= found - rounding).sum())

    def p_of_all(self) -> float:
        """The share of all exchanges that make as large a difference."""
        steps = self.steps[self.codes]
        steps = steps[(steps != 0).any(axis=1)]
        chosen = np.arange(2 ** len(steps))[:, None] >> np.arange(len(steps)) & 1
        return self.larger(chosen @ steps) / len(chosen)

    def _difference(self, moved: FloatArray) -> FloatArray:
        return quiet(self.value, self.totals[0] + moved) - quiet(self.value, self.totals[1] - moved)


def _p_of_some(exchanges: Sequence[_Exchange], settings: Bootstrap) -> list[float]:
    """Of `settings.resamples` random exchanges, the same units in each pair, the share that makes as large a difference.

    The answers as they are count among them, so that p is never 0 (Phipson & Smyth 2010, arXiv 1603.05766).
    """
    codes = np.stack([one.codes for one in exchanges], axis=1)
    kinds, first = number(list(map(tuple, codes.tolist())))
    steps = np.concatenate([one.steps[one.codes[first]] for one in exchanges], axis=1)
    differ = (steps != 0).any(axis=1)
    ends = np.cumsum([one.steps.shape[1] for one in exchanges])[:-1]
    larger = np.zeros(len(exchanges))
    for moved in _random_moves(steps[differ], np.bincount(kinds)[differ], settings):
        larger += [one.larger(part) for one, part in zip(exchanges, np.split(moved, ends, axis=1), strict=True)]
    return [float(p) for p in (larger + 1) / (settings.resamples + 1)]


def _random_moves(steps: FloatArray, sizes: IntArray, settings: Bootstrap) -> Iterator[FloatArray]:
    """(some resamples, s) at a time: sums of the steps of units that a fair coin chose; of many units with one step, by their number."""
    many, few = sizes >= _MANY, sizes < _MANY
    alone, starts = int(sizes[few].sum()), np.cumsum([0, *sizes[few]])[:-1]
    few_steps = steps[few].astype(float_type(steps[few], int(sizes.sum())))
    by_number, by_coin = np.random.default_rng([settings.seed, 2]), np.random.default_rng([settings.seed, 3])
    at_once = max(1, _CELLS // max(1, alone, int(many.sum())))
    for start in range(0, settings.resamples, at_once):
        chunk = min(at_once, settings.resamples - start)
        moved = by_number.binomial(sizes[many], 0.5, size=(chunk, int(many.sum()))) @ steps[many]
        if alone:
            coins = np.unpackbits(by_coin.integers(0, 256, size=(chunk, -(-alone // 8)), dtype=np.uint8), axis=1)[:, :alone]
            chosen = coins if len(starts) == alone else np.add.reduceat(coins, starts, axis=1, dtype=np.uint8)
            moved = moved + chosen.astype(few_steps.dtype) @ few_steps
        yield moved

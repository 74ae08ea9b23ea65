"""Split rows off, seeded: groups are never torn, and a new row hardly moves the others."""

from __future__ import annotations

import numpy as np

from potstill.data.grams import mix
from potstill.data.intake import BoolArray, UIntArray
from potstill.data.text import hash64
from potstill.errors import DataError


def split_off(units: UIntArray, count: int, *, seed: int, name: str, keep: int = 1) -> BoolArray:
    """Which rows go into the split `name`: about `count` of them, whole units only, and `keep` units at least are left.

    `units` (N,) holds a hash of what must stay together, one a row. Units are taken in the order of a second hash, over
    unit, `seed` and `name`, each that still fits; where none fits, the smallest is. So the choice depends on the rows' content
    alone, not on their order, and adding a row moves no more than the rows at the edge. Raises DataError where there are
    no more than `keep` units.
    """
    distinct, members, sizes = np.unique(units, return_inverse=True, return_counts=True)
    spare = len(distinct) - keep
    if spare < 1:
        raise DataError(f"too few rows are left to split a {name} set off; make the shares in `data` smaller, or name a file of its own")
    order = np.argsort(mix(distinct ^ np.uint64(hash64(f"{seed} {name}"))), kind="stable")
    chosen = np.zeros(len(distinct), dtype=np.bool_)
    room = min(count, len(units) - 1)
    for unit in order:
        if sizes[unit] <= room:
            chosen[unit] = True
            room -= int(sizes[unit])
            spare -= 1
            if not (room and spare):
                break
    if not chosen.any():
        chosen[order[np.argmin(sizes[order])]] = True
    result: BoolArray = chosen[members]
    return result

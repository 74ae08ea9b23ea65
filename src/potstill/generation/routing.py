"""Which of several teachers is asked about a row: in what order, and which of them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from potstill.models.talk import Seat
from potstill.records import Example
from potstill.store.atomic import fingerprint

Groups = list[list[Seat]]
"""Teachers that are asked together; the next group is asked where the gates drop all that the one before said."""


def by_weight(example: Example, teachers: Sequence[Seat]) -> Groups:
    """One teacher, drawn by weight. The draw hangs on the row's id alone, so it is the same at every resumption."""
    if len(teachers) == 1:
        return [[teachers[0]]]
    drawn = int(fingerprint(["route", example.id])[:13], 16) / 16**13 * sum(seat.weight for seat in teachers)
    ends = accumulate(seat.weight for seat in teachers)
    return [[next((seat for seat, end in zip(teachers, ends, strict=True) if drawn < end), teachers[-1])]]


def by_tag(example: Example, teachers: Sequence[Seat]) -> Groups:
    """The first teacher that names one of the row's tags; else the first that names none, else the first of all."""
    for seat in teachers:
        if set(seat.tags) & set(example.tags):
            return [[seat]]
    return [[next((seat for seat in teachers if not seat.tags), teachers[0])]]


def cascade(example: Example, teachers: Sequence[Seat]) -> Groups:
    """One after the other, as they are listed: the cheapest first."""
    del example
    return [[seat] for seat in teachers]


def ensemble(example: Example, teachers: Sequence[Seat]) -> Groups:
    """All together."""
    del example
    return [list(teachers)]


ROUTES: dict[str, Callable[[Example, Sequence[Seat]], Groups]] = {
    "weight": by_weight,
    "tag": by_tag,
    "cascade": cascade,
    "vote": ensemble,
}

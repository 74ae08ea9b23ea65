"""The training sets that a gate's worth is measured on: with it, without it, and without it but as small."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from potstill.data.ondisk import Dataset, DatasetWriter
from potstill.generation.collect import balanced_away, judge_rows
from potstill.generation.interview import Interview
from potstill.records import Example
from potstill.spec.sections import GatesSpec
from potstill.store.atomic import fingerprint

Learnt = tuple[Example, ...]
"""What is learnt of one row of the data."""


@dataclass(frozen=True)
class WithoutGate:
    """What would be learnt without one gate (a field of the spec's `gates`).

    `dropped` counts the learnt rows that the gate alone keeps out, `shortened` the conversations that it alone cuts short, `unanswered`
    rows of the data that need answers nobody asked for while the gate was on.
    """

    gate: str
    rows: Dataset
    dropped: int
    shortened: int
    unanswered: int


def gates_on(gates: GatesSpec) -> list[str]:
    """The fields of the spec that turn a gate on."""
    return [name for name in GatesSpec.model_fields if not _is_off(getattr(gates, name))]


def switched_off(gates: GatesSpec, name: str) -> GatesSpec:
    """The same gates without that of field `name`."""
    value = getattr(gates, name)
    off: object = False if isinstance(value, bool) else () if isinstance(value, tuple) else None
    return gates.model_copy(update={name: off})


def accepted_rows(interview: Interview, train: Sequence[Example]) -> Dataset:
    """What is learnt of the training rows with all gates as they are."""
    return Dataset.of(row for learnt, _ in _judged(interview, train, balanced_away(interview, train)) for row in learnt)


def rows_without(interview: Interview, train: Sequence[Example], gate: str) -> WithoutGate:
    """The accepted rows, and those that `gate` alone keeps out of them, in the order of the data.

    From the answers that are there: nobody is asked, and what the ledger says of the run's own gates stays. A row that another sample
    or teacher answered in place of a dropped answer stays as it is, and what `generation.balance` left out stays out.
    """
    writer = DatasetWriter()
    dropped = shortened = unanswered = 0
    left_out = balanced_away(interview, train)
    with_all = _judged(interview, train, left_out)
    without = _judged(interview.under(switched_off(interview.gates, gate)), train, left_out)
    for (on, on_is_whole), (off, off_is_whole) in zip(with_all, without, strict=True):
        unanswered += on_is_whole and not off_is_whole
        learnt = put_back(on, off)
        dropped += len(learnt) - len(on)
        shortened += sum(old != new for old, new in zip(on, learnt, strict=False))
        for row in learnt:
            writer.add(row)
    return WithoutGate(gate, writer.dataset(), dropped, shortened, unanswered)


def put_back(on: Learnt, off: Learnt) -> Learnt:
    """One row's learnt rows with the gate (`on`), and what there is besides, or further, without it (`off`)."""
    longer = [next((new for new in off if _goes_on(old, new)), old) for old in on]
    known = {row.messages for row in longer}
    fresh = [row for row in off if row.messages not in known]
    return (*longer, *fresh[: max(0, len(off) - len(on))])


def random_rows(rows: Dataset, count: int, gate: str, seed: int) -> Dataset:
    """`count` of the rows, drawn at random by gate and seed, in their order."""
    generator = np.random.default_rng(int(fingerprint(["ablation", gate, seed])[:16], 16))
    return rows.select(np.sort(generator.choice(len(rows), size=count, replace=False)))


def _judged(interview: Interview, train: Sequence[Example], left_out: frozenset[str]) -> Iterator[tuple[Learnt, bool]]:
    """What is learnt of each row, and whether all answers that takes are there."""
    for judged in judge_rows(interview, train, note=False):
        yield () if judged.example.id in left_out else judged.rows, judged.outcome is not None


def _goes_on(old: Example, new: Example) -> bool:
    said: Sequence[object] = old.messages
    return len(new.messages) > len(said) and new.messages[: len(said)] == said


def _is_off(value: object) -> bool:
    return value is None or value is False or value == ()

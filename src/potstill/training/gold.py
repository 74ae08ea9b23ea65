"""The user's own answers as rows to learn from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from potstill.records import Example, Message
from potstill.tasks.base import Task
from potstill.tasks.reasons import AfterReasons


def gold_rows(task: Task, rows: Iterable[Example]) -> Iterator[Example]:
    """Each question of `rows` that has a reference, with the first of these as its answer; of a conversation, one row a turn.

    Where the task reads answers after reasons, a row's own `rationale` stands before its answer.
    """
    for row in rows:
        for asked in task.expand(row):
            messages = task.render(asked)
            if messages is None or not asked.reference:
                continue
            reasons = row.rationale if isinstance(task, AfterReasons) else None
            answer = f"{reasons}\n\nAnswer: {asked.reference[0]}" if reasons else asked.reference[0]
            yield replace(row, id=asked.id, messages=(*messages, Message("assistant", answer)), trained_turns=(len(messages),))


def rows_with_reference(rows: Sequence[Example], most: int | None, seed: int) -> list[int]:
    """Places of the rows that have a reference, at most so many (None: all), drawn by `seed`."""
    places = [place for place, row in enumerate(rows) if row.reference]
    if most is None or len(places) <= most:
        return places
    return sorted(np.random.default_rng(seed).choice(places, most, replace=False).tolist())

"""Label sets: given in the spec or read from the training rows, and the rows checked against them."""

from __future__ import annotations

import dataclasses
import difflib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from potstill.data.intake import Check
from potstill.data.rows import quote
from potstill.errors import DataError
from potstill.records import Example
from potstill.spec.sections import TaskSpec
from potstill.store.atomic import read_json
from potstill.store.run import Run

MOST_LABELS = 5_000
"""More different references than this are texts, not labels."""


def load_labels(run: Run) -> tuple[str, ...]:
    """The labels of a run whose data stage is done; empty where the task has none."""
    if run.spec.task.type != "nli":
        return ()
    return tuple(read_json(run.path("data", "labels.json")))


def label_check(task: TaskSpec) -> Check | None:
    """What an nli task with given labels demands of a row: references are labels, in the labels' own spelling."""
    if task.labels is None:
        return None
    labels = task.labels
    spelling = {label.casefold(): label for label in labels}

    def check(example: Example) -> Example | list[str]:
        known = [text if text in labels else spelling.get(text.casefold()) for text in example.reference]
        foreign = [text for text, label in zip(example.reference, known, strict=True) if label is None]
        if foreign:
            return [_foreign_label(text, labels) for text in foreign]
        return dataclasses.replace(example, reference=tuple(label for label in known if label is not None))

    return check


def count_labels(rows: Iterable[Example]) -> dict[str, int]:
    """How many rows carry each reference, in alphabetical order. Raises DataError where there are too many to be labels."""
    counts: Counter[str] = Counter()
    for row in rows:
        counts.update(row.reference)
        if len(counts) > MOST_LABELS:
            raise DataError(
                f"the training rows have more than {MOST_LABELS:,} different references; an nli task needs a small, closed label set"
            )
    return dict(sorted(counts.items()))


def labels_from_counts(counts: dict[str, int]) -> tuple[str, ...]:
    """The label set of `labels_from: data`. Raises DataError where the training rows give none, or one that is ambiguous."""
    if not counts:
        raise DataError("`labels_from: data` finds no labels: no training row has a reference; add references, or give `task.labels`")
    if len(counts) < 2:
        raise DataError(f"`labels_from: data` finds one label alone, {quote(next(iter(counts)))}; a choice needs two or more")
    spellings: defaultdict[str, list[str]] = defaultdict(list)
    for label in counts:
        spellings[label.casefold()].append(label)
    twins = [f"{quote(same[0])} and {quote(same[1])}" for same in spellings.values() if len(same) > 1]
    if twins:
        raise DataError(f"labels that differ in case alone: {', '.join(twins[:5])}; write each label in one way")
    return tuple(counts)


def unknown_labels(rows: Iterable[Example], labels: Sequence[str]) -> dict[str, int]:
    """References outside the label set, and how many rows carry each."""
    known = frozenset(labels)
    return dict(Counter(text for row in rows for text in row.reference if text not in known))


def _foreign_label(text: str, labels: Sequence[str]) -> str:
    close = difflib.get_close_matches(text, labels, n=1)
    some = ", ".join(labels[:10]) + (f", ... ({len(labels)} in all)" if len(labels) > 10 else "")
    hint = f"did you mean {quote(close[0])}?" if close else f"the labels: {some}"
    return f"reference {quote(text)} is not one of the task's labels; {hint}"

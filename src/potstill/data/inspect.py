"""Everything that can be known of a spec's data before a run: for `potstill check`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from potstill.data.duplicates import Duplicates
from potstill.data.ondisk import Dataset
from potstill.data.prepare import Prepared, arrange, take_in_files
from potstill.data.problems import Problems
from potstill.spec.sections import RunSpec
from potstill.store.events import EventLog

PERCENTILES = (50, 95, 100)


@dataclass(frozen=True)
class DataReport:
    """What a spec's data holds, and what is wrong with it.

    `problems` holds the first 1,000 of `problem_count`; with any, `splits` and all counts may be empty. `prompt_characters` gives
    the 50th, 95th and 100th percentile of the prompts' length in characters (system prompts left out), by split.
    """

    problems: tuple[str, ...]
    problem_count: int
    notices: tuple[str, ...]
    counts: dict[str, int]
    with_reference: dict[str, int]
    prompt_characters: dict[str, dict[int, int]]
    label_counts: dict[str, int]
    duplicates: Duplicates | None
    splits: dict[str, Dataset]


def inspect_data(spec: RunSpec, log: EventLog | None = None) -> DataReport:
    """Read, check, split and compare a spec's data as the run would, and write nothing.

    Bad data is reported, never raised. Raises StoreError where the temporary folder is full.
    """
    log = log or EventLog()
    problems = Problems()
    return report(arrange(spec, take_in_files(spec, problems, log), problems, log))


def report(prepared: Prepared) -> DataReport:
    """The figures of prepared data."""
    parts = prepared.splits
    return DataReport(
        problems=tuple(prepared.problems.kept),
        problem_count=prepared.problems.count,
        notices=tuple(prepared.notices),
        counts={split: len(part) for split, part in parts.items()},
        with_reference={split: int(part.intake.referenced[part.rows].sum()) for split, part in parts.items()},
        prompt_characters={
            split: {at: int(np.percentile(part.intake.lengths[part.rows], at)) for at in PERCENTILES}
            for split, part in parts.items()
            if len(part)
        },
        label_counts=prepared.label_counts,
        duplicates=prepared.duplicates,
        splits={split: part.dataset for split, part in parts.items()},
    )

"""From the spec's files to three splits: take in, split off, compare, find labels. Problems are gathered, not raised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from potstill.data.checks import row_check
from potstill.data.duplicates import Duplicates, Pair, Part, find_duplicates
from potstill.data.intake import BoolArray, Intake, take_in
from potstill.data.labels import count_labels, labels_from_counts, unknown_labels
from potstill.data.leaks import SOUGHT, Leaks, leaks_between
from potstill.data.problems import Problems, counted, shown
from potstill.data.read import TABLES, check_readable, count_lines
from potstill.data.rows import quote
from potstill.data.split import split_off
from potstill.errors import DataError
from potstill.spec.sections import ColumnsSpec, RunSpec
from potstill.store.events import EventLog

SPLITS = ("train", "validation", "test")


@dataclass
class Prepared:
    """The splits, and all that is to be said of them. `splits` is empty where the files could not be read or split."""

    problems: Problems = field(default_factory=Problems)
    notices: list[str] = field(default_factory=list)
    splits: dict[str, Part] = field(default_factory=dict)
    split_off: tuple[str, ...] = ()
    dropped: dict[str, int] = field(default_factory=dict)
    duplicates: Duplicates | None = None
    leaks: Leaks | None = None
    labels: tuple[str, ...] = ()
    label_counts: dict[str, int] = field(default_factory=dict)


def source_files(spec: RunSpec) -> dict[str, Path]:
    """The data files that a spec names, by split."""
    files = {"train": spec.data.train, "validation": spec.data.validation, "test": spec.data.test}
    return {split: path for split, path in files.items() if path is not None}


def take_in_files(spec: RunSpec, problems: Problems, log: EventLog, folder: Path | None = None) -> dict[str, Intake]:
    """Read each file that the spec names; what is wrong with files and rows goes to `problems`."""
    intakes = {}
    for split, path in source_files(spec).items():
        try:
            check_readable(path)
            with log.progress(f"reading {path.name}", count_lines(path), "rows") as progress:
                intakes[split] = take_in(
                    path,
                    split=split,
                    columns=spec.data.columns,
                    conversation=spec.task.type == "conversation",
                    check=row_check(spec.task),
                    folder=folder,
                    advance=progress.advance,
                )
            problems.merge(intakes[split].problems)
        except DataError as error:
            problems.extend(error.problems)
    return intakes


def arrange(spec: RunSpec, intakes: dict[str, Intake], problems: Problems, log: EventLog) -> Prepared:
    """Split off what is missing, compare the splits, and find the labels."""
    prepared = Prepared(problems, notices=[text for intake in intakes.values() for text in intake.remarks.texts(intake.path)])
    _note_unused_columns(spec, prepared)
    if "train" not in intakes or any(not len(intake.rows) for intake in intakes.values()) or len(intakes) < len(source_files(spec)):
        return prepared
    if any(intake.several_systems for intake in intakes.values()):
        intakes = {split: intake.comparing_systems() for split, intake in intakes.items()}
    try:
        _split(spec, intakes, prepared)
    except DataError as error:
        problems.extend(error.problems)
        return prepared
    _note_shared_groups(prepared)
    _compare(spec, prepared, log)
    if spec.task.type == "nli":
        _find_labels(spec, prepared)
    return prepared


def _note_unused_columns(spec: RunSpec, prepared: Prepared) -> None:
    paths = source_files(spec).values()
    if spec.data.columns != ColumnsSpec() and not any(path.suffix.lower() in TABLES for path in paths):
        prepared.notices.append(
            "`data.columns` names columns of CSV and Parquet files, and no file is one: it is not used; JSONL rows have keys of their own"
        )


def _split(spec: RunSpec, intakes: dict[str, Intake], prepared: Prepared) -> None:
    intake = intakes["train"]
    fractions = {"test": spec.data.test_fraction, "validation": spec.data.validation_fraction}
    missing = {split: fraction for split, fraction in fractions.items() if split not in intakes}
    _check_fractions(missing)
    units = len(np.unique(intake.units))
    if units <= len(missing):
        found = f"{counted(len(intake.rows), 'row')} in {counted(units, 'group')}"
        raise DataError(
            f"{shown(intake.path)}: {found} are too few to split off {' and '.join(missing)}; {len(missing) + 1} groups are the least: "
            "add rows, or name files of their own under `data`"
        )
    left = np.arange(len(intake.rows))
    parts = {split: Part(split, given, np.arange(len(given.rows))) for split, given in intakes.items()}
    for still_to_come, (split, fraction) in zip(range(len(missing), 0, -1), missing.items(), strict=True):
        wanted = max(1, round(fraction * len(intake.rows)))
        chosen = split_off(intake.units[left], wanted, seed=spec.seed, name=split, keep=still_to_come)
        parts[split] = Part(split, intake, left[chosen])
        left = left[~chosen]
        if abs(len(parts[split]) - wanted) > max(1, wanted // 4):
            prepared.notices.append(
                f"{split} holds {len(parts[split]):,} of {len(intake.rows):,} rows where {wanted:,} were asked for: groups stay whole"
            )
    parts["train"] = Part("train", intake, left)
    prepared.splits = {split: parts[split] for split in SPLITS}
    prepared.split_off = tuple(missing)


def _check_fractions(missing: dict[str, float]) -> None:
    for split, fraction in missing.items():
        if fraction == 0:
            raise DataError(f"data.{split}_fraction is 0 and data.{split} names no file: there is no {split} set; give one of them")
    if sum(missing.values()) >= 1:
        shares = " + ".join(f"{fraction:g}" for fraction in missing.values())
        raise DataError(f"the shares split off for {' and '.join(missing)} ({shares}) leave nothing to train on; make them smaller")


def _note_shared_groups(prepared: Prepared) -> None:
    groups = {split: np.unique(part.intake.units[part.rows][part.intake.grouped[part.rows]]) for split, part in prepared.splits.items()}
    for one, other in (("train", "test"), ("validation", "test"), ("train", "validation")):
        shared = len(np.intersect1d(groups[one], groups[other]))
        if shared:
            prepared.notices.append(f"groups with rows in {one} and in {other}: {shared:,}; these rows are not independent of each other")


def _compare(spec: RunSpec, prepared: Prepared, log: EventLog) -> None:
    train, validation, test = (prepared.splits[split] for split in SPLITS)
    with log.progress("looking for duplicates", len(train) + 2 * len(validation) + len(test), "rows") as progress:
        found = find_duplicates(train, validation, test, threshold=spec.data.near_duplicate, advance=progress.advance)
    prepared.duplicates = found
    unwanted = {split: np.zeros(len(part), dtype=np.bool_) for split, part in prepared.splits.items()}
    for pair in found.pairs:
        if not pair.either.any():
            continue
        action = _action(spec, pair, prepared.split_off)
        what = _describe(pair)
        if action == "error":
            prepared.problems.add(
                f"{what}; a test on rows that were learnt proves nothing: remove them, or set `data.test_duplicates` to `drop` "
                "(leaves them out of train and validation) or `allow`"
            )
        elif action == "drop":
            unwanted[pair.split] |= pair.either
            prepared.notices.append(f"{what}; left out of {pair.split}")
        else:
            prepared.notices.append(what)
    _note_limits(found, prepared)
    if not prepared.problems.count:
        _find_leaks(prepared, found, unwanted["train"], log)
    _drop(prepared, unwanted)


def _find_leaks(prepared: Prepared, found: Duplicates, unwanted: BoolArray, log: EventLog) -> None:
    train, test = prepared.splits["train"], prepared.splits["test"]
    (pair,) = (pair for pair in found.pairs if (pair.split, pair.other) == ("train", "test"))
    with log.progress("looking for paraphrases", min(SOUGHT, int((~unwanted & ~pair.either).sum())), "rows") as progress:
        leaks = leaks_between(train, test, pair, unwanted=unwanted, template=found.template, advance=progress.advance)
    prepared.leaks = leaks
    if count := leaks.counts["paraphrase"]:
        first = next(example for example in leaks.examples if example["kind"] == "paraphrase")
        prepared.notices.append(
            f"train rows that may say in other words what test rows say: {count:,} of {leaks.sought:,}, first {quote(first['train'])} and "
            f"{quote(first['test'])}; they are kept, and the report tells of them"
        )


def _note_limits(found: Duplicates, prepared: Prepared) -> None:
    """What the comparison cannot see."""
    for pair in found.pairs:
        if count := int(pair.same_question.sum()):
            prepared.notices.append(
                f"{pair.split} rows that ask what rows of {pair.other} ask, under another system prompt: {count:,}; "
                "system prompts differ in this data, so these count as other questions"
            )
    if found.template:
        prepared.notices.append(
            f"{counted(len(found.template), 'three-word run')} that many rows share, such as {quote(min(found.template))}, left out of the "
            "search for near duplicates as a prompt template: copies that differ in little more are not found"
        )
    if found.unverified:
        prepared.notices.append(
            f"{found.unverified:,} rows resemble so many others that not all were compared: are they made from a template?"
        )


def _describe(pair: Pair) -> str:
    exact, near, first = int(pair.exact.sum()), int(pair.near.sum()), pair.examples[0]
    return (
        f"{pair.split} rows that stand in {pair.other} too: {exact + near:,} ({exact:,} exactly, {near:,} nearly), "
        f"first {first['place']} and {first['other_place']} (similarity {first['similarity']:.2f})"
    )


def _action(spec: RunSpec, pair: Pair, were_split_off: tuple[str, ...]) -> str:
    if pair.other == "test":
        asked = spec.data.test_duplicates
        return asked if asked != "auto" else "drop" if "test" in were_split_off else "error"
    return "drop" if pair.other in were_split_off else "report"


def _drop(prepared: Prepared, unwanted: dict[str, BoolArray]) -> None:
    for split, mask in unwanted.items():
        if not mask.any():
            continue
        prepared.dropped[split] = int(mask.sum())
        prepared.splits[split] = prepared.splits[split].without(mask)
        if not len(prepared.splits[split]):
            prepared.problems.add(f"no {split} rows are left: all of them stand in another split too")


def _find_labels(spec: RunSpec, prepared: Prepared) -> None:
    find: Callable[[dict[str, int]], tuple[str, ...]] = labels_from_counts if spec.task.labels is None else lambda _: spec.task.labels or ()
    try:
        prepared.label_counts = count_labels(prepared.splits["train"].dataset)
        prepared.labels = find(prepared.label_counts)
    except DataError as error:
        prepared.problems.extend(error.problems)
        return
    for split in ("validation", "test"):
        unknown = unknown_labels(prepared.splits[split].dataset, prepared.labels)
        if unknown:
            some = ", ".join(sorted(unknown)[:5])
            prepared.notices.append(
                f"{split} rows with labels that no training row has: {sum(unknown.values()):,} ({some}); the student cannot learn them, "
                "and their answers count as wrong"
            )

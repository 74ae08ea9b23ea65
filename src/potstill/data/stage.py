"""The data stage: three splits on disk, checked and free of leaks, with a manifest and a leak report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from potstill.data.held_out import index_held_out
from potstill.data.inspect import DataReport, report
from potstill.data.prepare import SPLITS, Prepared, arrange, source_files, take_in_files
from potstill.data.problems import Problems, counted
from potstill.data.read import check_readable
from potstill.data.splits import HELD_OUT_FILE
from potstill.store.atomic import hash_file, store_error, write_atomic, write_json
from potstill.store.events import StageName
from potstill.store.run import Run

NAME: StageName = "data"
DISCARD = (*(f"{split}.jsonl" for split in SPLITS), "labels.json", "manifest.json", "leaks.json", HELD_OUT_FILE)

VERSION = 3


def inputs(run: Run) -> dict[str, object]:
    """What the splits depend on: the files' content (not their places), and the spec's data and task fields and seed."""
    files = source_files(run.spec)
    for path in files.values():
        check_readable(path)
    return {
        "version": VERSION,
        "sources": {split: {"sha256": hash_file(path), "format": path.suffix.lower()} for split, path in files.items()},
        "data": run.spec.data.model_dump(mode="json", exclude=set(SPLITS)),
        "task": run.spec.task.model_dump(mode="json", include={"type", "labels", "labels_from"}),
        "seed": run.spec.seed,
    }


def work(run: Run, resumed: bool) -> str:
    """Read, check, split, compare, write. Raises DataError with the problems of all rows."""
    del resumed  # reading again is cheaper than remembering how far it was
    folder = run.path("data")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise store_error(folder, error) from None
    problems = Problems()
    intakes = take_in_files(run.spec, problems, run.events, folder)
    if problems.count:
        raise problems.error()
    prepared = arrange(run.spec, intakes, problems, run.events)
    if prepared.duplicates is not None:
        leaks = {} if prepared.leaks is None else {"train_test": prepared.leaks.to_json()}
        write_json(folder / "leaks.json", {**prepared.duplicates.to_json(), **leaks})
    if problems.count:
        raise problems.error()
    for notice in prepared.notices:
        run.events.warn(notice)
    return _write(run, prepared)


def outputs(run: Run) -> list[Path]:
    """The files that later stages read."""
    names = [f"{split}.jsonl" for split in SPLITS] + ["manifest.json", "leaks.json", HELD_OUT_FILE]
    if run.spec.task.type == "nli":
        names.append("labels.json")
    return [run.path("data", name) for name in names]


def _write(run: Run, prepared: Prepared) -> str:
    folder = run.path("data")
    for split, part in prepared.splits.items():
        with write_atomic(folder / f"{split}.jsonl", "wb") as file:
            file.writelines(part.dataset.lines())
    if run.spec.task.type == "nli":
        write_json(folder / "labels.json", list(prepared.labels))
    _write_hashes(run, prepared)
    figures = report(prepared)
    write_json(folder / "manifest.json", _manifest(run, prepared, figures))
    return _summary(prepared, figures)


def _write_hashes(run: Run, prepared: Prepared) -> None:
    train, validation, test = (prepared.splits[split].dataset for split in SPLITS)
    with run.events.progress("hashing the held-out rows", len(train), "rows") as progress:
        index_held_out(train, validation, test, progress.advance).save(run.path("data", HELD_OUT_FILE))


def _manifest(run: Run, prepared: Prepared, figures: DataReport) -> dict[str, Any]:
    data = run.spec.data
    fractions = {"validation": data.validation_fraction, "test": data.test_fraction}
    return {
        "rows": figures.counts,
        "with_reference": figures.with_reference,
        "prompt_characters": figures.prompt_characters,
        "label_counts": figures.label_counts,
        "sources": {split: {"path": str(path), "sha256": hash_file(path)} for split, path in source_files(run.spec).items()},
        "split_off": {split: fractions[split] for split in prepared.split_off},
        "duplicates_left_out": prepared.dropped,
        "seed": run.spec.seed,
        "notices": prepared.notices,
    }


def _summary(prepared: Prepared, figures: DataReport) -> str:
    parts = ", ".join(f"{count:,} {split}" for split, count in figures.counts.items())
    dropped = sum(prepared.dropped.values())
    extra = f"; {counted(dropped, 'duplicate')} left out" if dropped else ""
    if figures.label_counts:
        extra += f"; {counted(len(prepared.labels), 'label')}"
    return f"{counted(sum(figures.counts.values()), 'row')}: {parts}{extra}"

"""One data file taken in: its rows checked and normalised on disk, and what splitting needs to know of each, in arrays."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from potstill.data.ondisk import Dataset, DatasetWriter, IntArray
from potstill.data.problems import Problems, Remarks, shown
from potstill.data.read import numbered_rows
from potstill.data.rows import quote
from potstill.data.text import compared_text, hash64, normalise, prompt_text, system_text
from potstill.records import Example
from potstill.spec.sections import ColumnsSpec

UIntArray = NDArray[np.uint64]
BoolArray = NDArray[np.bool_]

Check = Callable[[Example], Example | list[str]]
"""A task's own demand of a row: the row as it shall be, or what is wrong with it."""
Advance = Callable[[int], object]

_ADVANCE_ROWS = 500


@dataclass(frozen=True)
class Intake:
    """The acceptable rows of one file, and the problems of the others.

    Arrays have one entry a row: `lines` in the source; `questions`, a hash of the normalised user turns; `systems`, one of the system
    prompt (0: none); `contents`, a hash of all that is compared; `units`, a hash of the group, or of the content where there is
    none: rows of one unit stay in one split; `lengths`, characters of the prompt.
    """

    path: Path
    rows: Dataset
    problems: Problems
    remarks: Remarks
    lines: IntArray
    questions: UIntArray
    systems: UIntArray
    contents: UIntArray
    units: UIntArray
    lengths: IntArray
    grouped: BoolArray
    referenced: BoolArray
    with_systems: bool = False

    @property
    def several_systems(self) -> bool:
        """Whether rows bring different system prompts, which then hold a part of what is asked: a passage, perhaps."""
        return len(np.unique(self.systems[self.systems != 0])) > 1

    def comparing_systems(self) -> Intake:
        """The same rows, compared with their system prompts."""
        contents = self.questions ^ (self.systems * np.uint64(0x9E3779B97F4A7C15))
        return replace(self, contents=contents, units=np.where(self.grouped, self.units, contents), with_systems=True)

    def place(self, row: int) -> str:
        """Where a row was read: `train.jsonl:17`."""
        return f"{shown(self.path)}:{self.lines[row]}"


def take_in(
    path: Path,
    *,
    split: str,
    columns: ColumnsSpec,
    conversation: bool,
    check: Check | None = None,
    folder: Path | None = None,
    advance: Advance = int,
) -> Intake:
    """Read, check and normalise a file of any format.

    `split` names rows that have no id, `folder` is where the normalised rows are kept (as a file without a name), `advance` is told
    how many more lines were read. Problems of rows are gathered in the result. Raises DataError where the file as a whole
    cannot be read, StoreError where the normalised rows cannot be written.
    """
    recorder = _Recorder(folder)
    reported = line = 0
    for line, found in numbered_rows(path, split, columns, conversation=conversation, remarks=recorder.remarks):
        if isinstance(found, list):
            recorder.problems.extend(map(str, found))
        else:
            recorder.add(line, found, check(found) if check else found, path)
        if line - reported >= _ADVANCE_ROWS:
            advance(line - reported)
            reported = line
    advance(line - reported)
    return recorder.intake(path)


class _Recorder:
    def __init__(self, folder: Path | None) -> None:
        self.writer = DatasetWriter(folder)
        self.problems, self.remarks = Problems(), Remarks()
        self.lines, self.lengths, self.ids = array("q"), array("q"), array("q")
        self.questions, self.systems, self.units = array("Q"), array("Q"), array("Q")
        self.grouped, self.referenced = bytearray(), bytearray()

    def add(self, line: int, found: Example, checked: Example | list[str], path: Path) -> None:
        if isinstance(checked, list):
            self.problems.extend(f"{shown(path)}:{line}: {text}" for text in checked)
        row = checked if isinstance(checked, Example) else found
        question = hash64(normalise(compared_text(row, with_system=False)))
        system = system_text(row)
        self.writer.add(row)
        self.lines.append(line)
        self.lengths.append(len(prompt_text(row)))
        self.ids.append(hash(row.id))
        self.questions.append(question)
        self.systems.append(0 if system is None else hash64(normalise(system)))
        self.units.append(question if row.group is None else hash64(f"group {row.group}"))
        self.grouped.append(row.group is not None)
        self.referenced.append(bool(row.reference))

    def intake(self, path: Path) -> Intake:
        questions = np.frombuffer(self.questions, dtype=np.uint64)
        intake = Intake(
            path=path,
            rows=self.writer.dataset(),
            problems=self.problems,
            remarks=self.remarks,
            lines=np.frombuffer(self.lines, dtype=np.int64),
            questions=questions,
            systems=np.frombuffer(self.systems, dtype=np.uint64),
            contents=questions,
            units=np.frombuffer(self.units, dtype=np.uint64),
            lengths=np.frombuffer(self.lengths, dtype=np.int64),
            grouped=np.frombuffer(self.grouped, dtype=np.bool_),
            referenced=np.frombuffer(self.referenced, dtype=np.bool_),
        )
        _report_shared_ids(intake, np.frombuffer(self.ids, dtype=np.int64))
        return intake


def _report_shared_ids(intake: Intake, hashes: IntArray) -> None:
    """Rows whose hashes agree are read again, and their ids compared: a million ids cost 8 MB, not 100."""
    order = np.argsort(hashes, kind="stable")
    same = hashes[order[1:]] == hashes[order[:-1]]
    suspects = np.unique(np.concatenate([order[:-1][same], order[1:][same]]))
    first_lines: dict[str, int] = {}
    for row in suspects:
        name = intake.rows[int(row)].id
        line = int(intake.lines[row])
        if name in first_lines:
            intake.problems.add(f"{intake.place(int(row))}: id {quote(name)} stands on line {first_lines[name]} already; ids must differ")
        else:
            first_lines[name] = line

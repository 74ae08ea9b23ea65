"""What is wrong with the data, gathered: a bad row is reported with all the others, not alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from potstill.errors import DataError

LISTED = 20
"""So many problems are listed in an error's message; the rest is counted."""
KEPT = 1_000
"""So many problems are kept at all, so that a million bad rows do not fill the memory."""


class Problems:
    """Gathers problems: all are counted, the first 1,000 kept."""

    def __init__(self) -> None:
        self.count = 0
        self.kept: list[str] = []

    def add(self, text: str) -> None:
        """One more problem."""
        self.count += 1
        if len(self.kept) < KEPT:
            self.kept.append(text)

    def extend(self, texts: Iterable[str]) -> None:
        """More problems."""
        for text in texts:
            self.add(text)

    def merge(self, other: Problems) -> None:
        """The problems of another place too."""
        self.kept.extend(other.kept[: KEPT - len(self.kept)])
        self.count += other.count

    def error(self) -> DataError:
        """All of it as one error: the first 20 listed, the rest counted."""
        assert self.count, "there is no problem to report"
        lines = self.kept[:LISTED]
        if self.count > len(lines):
            lines = [*lines, f"... and {self.count - len(lines):,} more problems"]
        return DataError("\n".join(lines), self.kept)


class Remarks:
    """What is to be said of rows that are acceptable: each kind once, with the number of rows and the first line."""

    def __init__(self) -> None:
        self._lines: dict[str, tuple[int, int]] = {}

    def extend(self, line: int, texts: Iterable[str]) -> None:
        """What is to be said of one line; the same may be said of many."""
        for text in texts:
            count, first = self._lines.get(text, (0, line))
            self._lines[text] = (count + 1, first)

    def texts(self, path: Path) -> list[str]:
        """One text a kind: `train.jsonl: 3 rows, first on line 7: ...`."""
        return [f"{shown(path)}: {counted(count, 'row')}, first on line {first}: {text}" for text, (count, first) in self._lines.items()]


def shown(path: Path) -> str:
    """A path as messages name it: relative where it lies under the working folder."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 row`, `1,200 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"

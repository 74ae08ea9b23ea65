"""Parts of the rows, each for one worker: its rows, its ledger and its events, as files in the run folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from potstill.generation.asking import Rows
from potstill.generation.interview import Interview
from potstill.generation.workers.hours import uncounted_dollars
from potstill.records import Example
from potstill.store.atomic import store_error
from potstill.store.events import Progress
from potstill.store.ledger import Ledger

PATIENCE_S = 30.0
"""How long a worker whose driver was killed may take to end, and to let go of its ledger."""
_KEYS_LENT_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class Part:
    """One worker's rows, and where it keeps what it does."""

    folder: Path
    number: int
    count: int = 0

    @property
    def rows(self) -> Path:
        """JSONL, one `Example.to_json` a line."""
        return self.folder / f"{self.number}.jsonl"

    @property
    def ledger(self) -> Path:
        """The worker's own ledger."""
        return self.folder / f"{self.number}.sqlite"

    @property
    def events(self) -> Path:
        """What the worker has to tell."""
        return self.folder / f"{self.number}.events.jsonl"

    def read(self) -> Iterator[Example]:
        """The rows, in order."""
        with open(self.rows, encoding="utf-8") as file:
            yield from (Example.from_json(json.loads(line)) for line in file)


@dataclass(frozen=True, slots=True)
class Taken:
    """What workers' ledgers brought: answers that were new, and calls that were cut off."""

    answers: int
    cut: int


def deal_rows(folder: Path, interview: Interview, rows: Rows, workers: int, progress: Progress) -> list[Part]:
    """Deal what is to be asked to at most so many workers; parts of no rows are left out.

    Rows of one first question come into one part, so that equal questions are asked once. Each ledger gets what its rows were answered
    already. Raises StoreError.
    """
    try:
        folder.mkdir(parents=True)
        with ExitStack() as files:
            dealer = _Dealer(interview, [Part(folder, number) for number in range(workers)], files)
            for example in rows():
                dealer.deal(example)
                progress.advance()
            return dealer.parts()
    except OSError as error:
        raise store_error(folder, error) from None


def take_in(folder: Path, ledger: Ledger, *, hours_shared: bool = False) -> Taken:
    """Merge the workers' ledgers into `ledger`, and remove their folder. Cut off in between, it may be done again.

    `hours_shared`: each counted its part alone of what machines cost by the hour, so what is missing is counted here. Raises StoreError
    where a worker is still at work.
    """
    answers = cut = workers = 0
    stretches: list[tuple[float, float]] = []
    dollars = 0.0
    for path in sorted(folder.glob("*.sqlite")):
        # Opening settles what was in flight, and repairs what a kill left.
        with Ledger(path, run=ledger.run, wait_s=PATIENCE_S) as theirs:
            cut += theirs.orphaned
            stretches += theirs.stretches()
            dollars += theirs.dollars() or 0.0
        workers += Part(folder, int(path.stem)).rows.stat().st_size > 0
        answers += ledger.merge(path)
    if hours_shared and stretches:
        # Where the last stretch ends none begins, and that is the same however often this is done.
        ledger.note_asking(max(since + seconds for since, seconds in stretches), 0.0, uncounted_dollars(stretches, dollars, workers))
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise store_error(folder, error) from None
    return Taken(answers, cut)


class _Dealer:
    """Writes each row to its part's file, and lends its answers to its part's ledger."""

    def __init__(self, interview: Interview, parts: list[Part], files: ExitStack) -> None:
        self._interview, self._parts = interview, parts
        self._files: list[IO[str]] = [files.enter_context(part.rows.open("w", encoding="utf-8")) for part in parts]
        self._counts = [0] * len(parts)
        self._lent: list[list[str]] = [[] for _ in parts]
        for part in parts:
            Ledger(part.ledger).close()

    def deal(self, example: Example) -> None:
        standing = self._interview.standing(example)
        if standing.done:
            return
        number = int(standing.first[:15], 16) % len(self._parts)
        self._files[number].write(json.dumps(example.to_json(), ensure_ascii=False) + "\n")
        self._counts[number] += 1
        self._lent[number] += standing.answered
        if len(self._lent[number]) >= _KEYS_LENT_AT_ONCE:
            self._lend(number)

    def parts(self) -> list[Part]:
        for number in range(len(self._parts)):
            self._lend(number)
        return [Part(part.folder, part.number, count) for part, count in zip(self._parts, self._counts, strict=True) if count]

    def _lend(self, number: int) -> None:
        self._interview.ledger.lend(self._parts[number].ledger, sorted(set(self._lent[number])))
        self._lent[number] = []

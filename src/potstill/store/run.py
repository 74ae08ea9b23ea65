"""The run directory: who owns it, what stands in it, what each stage was made from."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from potstill.errors import StoreError
from potstill.spec import RunSpec, dump_spec
from potstill.store.atomic import damaged, fingerprint, hash_file, read_object, store_error, write_json, write_text
from potstill.store.events import EventLog, Listener, StageName

FOLDERS: dict[StageName, str] = {
    "data": "data",
    "adapt": "adaptation",
    "generate": "generation",
    "train": "training",
    "evaluate": "evaluation",
    "report": "report",
}


@dataclass(frozen=True)
class Run:
    """One run: its spec, its folder, its events.

    `given` is the spec as the user gave it, where `spec` names an adapted teacher in place of the given one (`store.adapted`).
    """

    spec: RunSpec
    folder: Path
    events: EventLog
    given: RunSpec | None = None

    def path(self, *parts: str) -> Path:
        """A path inside the run folder."""
        return self.folder.joinpath(*parts)

    @property
    def ledger_path(self) -> Path:
        """The ledger of generation: the run's own, or the one that it shares."""
        return self.spec.generation.ledger or self.path("generation", "ledger.sqlite")

    def stage(self, name: StageName) -> StageRecord:
        """What is on record of a stage."""
        return StageRecord(self.folder, name)


class RunLock:
    """Holds a run folder, made where it was missing, against a second process; let go when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[str] | None = None

    def __enter__(self) -> RunLock:
        path = self._folder / ".lock"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+", encoding="utf-8")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            assert self._file is not None
            self._file.seek(0)
            owner = self._file.read().strip() or "unknown"
            raise StoreError(
                f"{self._folder}: another potstill process (pid {owner}) is at work here; wait for it, or give this run another name"
            ) from None
        except OSError as error:
            raise store_error(path, error) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


class StageRecord:
    """`<stage folder>/stage.json`: the fingerprint of what a stage read, and the hashes of what it wrote.

    A stage is begun with its inputs. Where the same inputs were begun before, it resumes on what stands in its folder;
    where others were, what belongs to those is set aside in `.before/` until the stage is finished, `stage.json` with it:
    first when it goes and last when it comes back, so that a kill at any moment leaves enough to tell what is whose.

        stage.json   .before/stage.json
        there        no                   the usual
        there        there                another attempt was begun; `.before` holds what stood before it
        no           there                killed while moving: all of it is put back
    """

    def __init__(self, run_folder: Path, name: StageName) -> None:
        self.name = name
        self.folder = run_folder / FOLDERS[name]
        self._run_folder = run_folder
        self._path = self.folder / "stage.json"
        self._before = self.folder / ".before"

    def stands(self, inputs: object) -> bool:
        """True where the stage finished on these inputs and its outputs are unchanged."""
        record = self._read()
        if record.get("state") != "finished" or record.get("inputs") != fingerprint(inputs):
            return False
        outputs: dict[str, str] = record["outputs"]
        places = {self._place(name): digest for name, digest in outputs.items()}
        return all(path.exists() and hash_file(path) == digest for path, digest in places.items())

    def exists(self) -> bool:
        """True where the stage was begun at least once."""
        return self._path.exists()

    def was_begun_on(self, inputs: object) -> bool:
        """True where an attempt on these very inputs is on record."""
        return self._read().get("inputs") == fingerprint(inputs)

    def was_finished_on(self, inputs: object) -> bool:
        """True where the stage finished on these very inputs, whatever became of its outputs since."""
        return self.was_begun_on(inputs) and self._read().get("state") == "finished"

    def begin(self, inputs: object, *, discard: Sequence[str] = ()) -> bool:
        """Mark the stage as begun; True where it goes on from an earlier, cut attempt on the same inputs.

        `discard` names entries of the stage's folder that belong to one set of inputs (checkpoints, say): they are set aside
        where the inputs changed.
        """
        resumed = self.was_begun_on(inputs)
        with _moving(self.folder):
            if not resumed:
                self._set_aside(discard)
            write_json(self._path, {"state": "started", "inputs": fingerprint(inputs)})
        return resumed

    def put_back(self, discard: Sequence[str]) -> None:
        """Undo `begin` after a failure: what was set aside stands again, unless the attempt has made some of `discard` itself."""
        if self._is_aside() and not any((self.folder / name).exists() for name in discard):
            # What cannot be moved now is moved by `reclaim`; the failure itself is what the user must hear of.
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)
                self._restore()

    def reclaim(self, inputs: object, discard: Sequence[str]) -> None:
        """Put back what was set aside, where a kill left it half moved, or where it was made from these very inputs."""
        with _moving(self.folder):
            if not self._goes_back(inputs):
                return
            if self.exists():
                self._drop(discard)
                self._path.unlink()
            self._restore()

    def foreseen(self, inputs: object, discard: Sequence[str]) -> StageRecord:
        """The record that `reclaim` would leave, read where its files are now; nothing is moved."""
        if not self._goes_back(inputs):
            return self
        return _PutBack(self._run_folder, self.name, dropped=discard if self.exists() else ())

    def finish(self, inputs: object, outputs: Sequence[Path]) -> None:
        """Mark the stage as done, with the hashes of its outputs; what was set aside for it goes."""
        hashes = {str(path.relative_to(self._run_folder)): hash_file(path) for path in outputs}
        with _moving(self.folder):
            (self._before / "stage.json").unlink(missing_ok=True)
            _remove(self._before)
        write_json(self._path, {"state": "finished", "inputs": fingerprint(inputs), "outputs": hashes})

    def outputs(self) -> dict[str, str]:
        """Hashes of a finished stage's outputs, by path in the run folder; what later stages take as input."""
        record = self._read()
        if record.get("state") != "finished":
            raise StoreError(
                f"{self.folder}: stage `{self.name}` has not been finished; run `potstill run` or `potstill {self.name}` first"
            )
        found: dict[str, str] = record["outputs"]
        return found

    def _place(self, name: str) -> Path:
        """Where an output is now, by its path in the run folder."""
        return self._run_folder / name

    def _goes_back(self, inputs: object) -> bool:
        if not self._is_aside():
            return False
        return not self.exists() or read_object(self._before / "stage.json").get("inputs") == fingerprint(inputs)

    def _is_aside(self) -> bool:
        return (self._before / "stage.json").exists()

    def _set_aside(self, names: Sequence[str]) -> None:
        if self._is_aside() or not self.exists():
            self._drop(names)  # what stands here is an attempt's that came to nothing, or nobody's
            return
        _remove(self._before)
        self._before.mkdir()
        for name in ("stage.json", *names):
            if (self.folder / name).exists():
                os.rename(self.folder / name, self._before / name)

    def _drop(self, names: Sequence[str]) -> None:
        if self.exists():
            write_json(self._path, {"state": "started", "inputs": ""})  # of no inputs, so that nobody resumes on half of it
        for name in names:
            _remove(self.folder / name)

    def _restore(self) -> None:
        for path in sorted(self._before.iterdir(), key=lambda path: path == self._before / "stage.json"):
            os.rename(path, self.folder / path.name)
        self._before.rmdir()

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():
            return {}
        record = read_object(self._path, "state", "inputs")
        if record["state"] == "finished" and not isinstance(record.get("outputs"), dict):
            raise damaged(self._path)
        return record


class _PutBack(StageRecord):
    """A record that is set aside, as if it stood again and what is `dropped` for it were gone. For reading alone."""

    def __init__(self, run_folder: Path, name: StageName, *, dropped: Sequence[str]) -> None:
        super().__init__(run_folder, name)
        self._path = self._before / "stage.json"
        self._dropped = dropped

    def _place(self, name: str) -> Path:
        here = super()._place(name)
        if not here.is_relative_to(self.folder):
            return here
        inner = here.relative_to(self.folder)
        moved = inner.parts[0] in self._dropped or (self._before / inner.parts[0]).exists()
        return self._before / inner if moved else here


def open_run(spec: RunSpec, folder: Path, listeners: tuple[Listener, ...] = ()) -> Run:
    """Make or reopen a run folder; the resolved spec is written into it. Where another process may be at work there, hold `RunLock`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise store_error(folder, error) from None
    write_text(folder / "spec.yaml", dump_spec(spec))
    return Run(spec, folder, EventLog(folder / "events.jsonl", listeners))


@contextlib.contextmanager
def _moving(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise store_error(folder, error) from None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

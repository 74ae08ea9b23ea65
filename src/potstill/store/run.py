"""The run directory: who owns it, what stands in it, what each stage was made from."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from potstill.errors import StoreError
from potstill.spec import RunSpec, dump_spec
from potstill.store.atomic import damaged, fingerprint, hash_file, read_object, store_error, write_json, write_text
from potstill.store.events import EventLog, Listener, StageName

FOLDERS: dict[StageName, str] = {
    "data": "data",
    "generate": "generation",
    "train": "training",
    "evaluate": "evaluation",
    "report": "report",
}


@dataclass(frozen=True)
class Run:
    """One run: its spec, its folder, its events."""

    spec: RunSpec
    folder: Path
    events: EventLog

    def path(self, *parts: str) -> Path:
        """A path inside the run folder."""
        return self.folder.joinpath(*parts)

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
    where others were, what belongs to those is discarded.
    """

    def __init__(self, run_folder: Path, name: StageName) -> None:
        self.name = name
        self.folder = run_folder / FOLDERS[name]
        self._run_folder = run_folder
        self._path = self.folder / "stage.json"

    def stands(self, inputs: object) -> bool:
        """True where the stage finished on these inputs and its outputs are unchanged."""
        record = self._read()
        if record.get("state") != "finished" or record.get("inputs") != fingerprint(inputs):
            return False
        outputs: dict[str, str] = record["outputs"]
        return all((self._run_folder / name).exists() and hash_file(self._run_folder / name) == digest for name, digest in outputs.items())

    def exists(self) -> bool:
        """True where the stage was begun at least once."""
        return self._path.exists()

    def was_begun_on(self, inputs: object) -> bool:
        """True where an attempt on these very inputs is on record."""
        return self._read().get("inputs") == fingerprint(inputs)

    def begin(self, inputs: object, *, discard: Sequence[str] = ()) -> bool:
        """Mark the stage as begun; True where it goes on from an earlier, cut attempt on the same inputs.

        `discard` names entries of the stage's folder that belong to one set of inputs (checkpoints, say): they are removed
        where the inputs changed.
        """
        digest = fingerprint(inputs)
        resumed = self.was_begun_on(inputs)
        if not resumed:
            for name in discard:
                _remove(self.folder / name)
        write_json(self._path, {"state": "started", "inputs": digest})
        return resumed

    def finish(self, inputs: object, outputs: Sequence[Path]) -> None:
        """Mark the stage as done, with the hashes of its outputs."""
        hashes = {str(path.relative_to(self._run_folder)): hash_file(path) for path in outputs}
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

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():
            return {}
        record = read_object(self._path, "state", "inputs")
        if record["state"] == "finished" and not isinstance(record.get("outputs"), dict):
            raise damaged(self._path)
        return record


def open_run(spec: RunSpec, folder: Path, listeners: tuple[Listener, ...] = ()) -> Run:
    """Make or reopen a run folder; the resolved spec is written into it. Where another process may be at work there, hold `RunLock`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise store_error(folder, error) from None
    write_text(folder / "spec.yaml", dump_spec(spec))
    return Run(spec, folder, EventLog(folder / "events.jsonl", listeners))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

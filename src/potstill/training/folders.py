"""Folders of weights that are either whole or not there, and checkpoints made of them."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from potstill.models.saving import writing
from potstill.store.atomic import sync_folder

_KEEP = 2


@contextlib.contextmanager
def replace_folder(folder: Path) -> Iterator[Path]:
    """A fresh folder that takes the place of `folder` when the block ends well, and vanishes when it does not.

    A kill between the two renames leaves no `folder`, until `recover_folder`, and never half of one. Raises StoreError where
    it cannot be written.
    """
    part, old = _beside(folder)
    try:
        with writing(folder):
            recover_folder(folder)
            part.mkdir(parents=True)
            yield part
            _sync_files(part)
            if folder.exists():
                os.rename(folder, old)
            os.rename(part, folder)
            sync_folder(folder.parent)
    finally:
        for leftover in (part, old):
            shutil.rmtree(leftover, ignore_errors=True)


def recover_folder(folder: Path) -> None:
    """Undo what a kill left of `replace_folder`: put the old folder back where none stands, remove the half-written one."""
    part, old = _beside(folder)
    if old.exists() and not folder.exists():
        os.rename(old, folder)
    for leftover in (part, old):
        shutil.rmtree(leftover, ignore_errors=True)


class Checkpoints:
    """`checkpoint-<step>` folders, at most two; each is written beside and renamed, so that all that stand are whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.part = folder / ".part"

    def newest(self) -> Path | None:
        """The furthest checkpoint; what a kill left half-written is removed."""
        shutil.rmtree(self.part, ignore_errors=True)
        standing = self._standing()
        return standing[-1] if standing else None

    def discard(self) -> None:
        """Remove them all."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def saving(self, step: int) -> Iterator[Path]:
        """A folder in which `checkpoint-<step>` is to be written; it is moved to its place when the block ends well."""
        target = self.folder / f"checkpoint-{step}"
        with writing(target):
            shutil.rmtree(self.part, ignore_errors=True)
            self.part.mkdir(parents=True)
            yield self.part
            _sync_files(self.part / target.name)
            shutil.rmtree(target, ignore_errors=True)
            os.rename(self.part / target.name, target)
            self.part.rmdir()
            sync_folder(self.folder)
        for old in self._standing()[:-_KEEP]:
            shutil.rmtree(old, ignore_errors=True)

    def _standing(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoint-*"), key=lambda path: int(path.name.removeprefix("checkpoint-")))


def _beside(folder: Path) -> tuple[Path, Path]:
    return folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.old")


def _sync_files(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())

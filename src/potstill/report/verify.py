"""Is a run what its manifest says? Every file hashed again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from potstill.errors import StoreError
from potstill.report.manifest import MANIFEST, files_of
from potstill.store.atomic import hash_file, read_object

Status = Literal["ok", "changed", "missing", "not listed"]
STATUSES: tuple[Status, ...] = ("ok", "changed", "missing", "not listed")


@dataclass(frozen=True)
class Verification:
    """What became of each file, by its path in the run folder; `manifest` is the manifest's own hash, to be noted elsewhere."""

    name: str
    manifest: str
    files: dict[str, Status]

    @property
    def counts(self) -> dict[Status, int]:
        """How many files there are of each status."""
        counted = Counter(self.files.values())
        return {status: counted[status] for status in STATUSES}

    @property
    def stands(self) -> bool:
        """Whether all that the manifest lists is there as it was; files beside it do not matter."""
        return not self.counts["changed"] and not self.counts["missing"]

    def to_json(self) -> dict[str, Any]:
        """As `potstill verify --json` prints it."""
        return {"name": self.name, "manifest": self.manifest, "stands": self.stands, "counts": self.counts, "files": self.files}


def verify_run(folder: Path) -> Verification:
    """Compare a run folder with its `manifest.json`. Raises StoreError where there is none, or it is damaged."""
    path = folder / MANIFEST
    if not path.is_file():
        what = "the run has no report yet; `potstill report SPEC` writes it" if folder.is_dir() else "there is no such folder"
        raise StoreError(f"{path}: is not there: {what}")
    manifest = read_object(path, "name", "files")
    listed: dict[str, str] = manifest["files"]
    files: dict[str, Status] = {name: _status(folder / name, digest) for name, digest in listed.items()}
    files |= dict.fromkeys((name for name in files_of(folder) if name not in listed), "not listed")
    return Verification(manifest["name"], hash_file(path), dict(sorted(files.items())))


def _status(path: Path, digest: str) -> Status:
    if not path.is_file():
        return "missing"
    return "ok" if hash_file(path) == digest else "changed"

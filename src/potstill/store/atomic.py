"""Files that are either whole or not there: write beside, fsync, rename."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from potstill.errors import StoreError

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and run the same command again: what was done is kept",
    errno.EDQUOT: "the disk quota is used up; free some space and run the same command again: what was done is kept",
    errno.EFBIG: "the file is larger than the file system or `ulimit -f` allows; raise the limit and run the same command again",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EACCES: "permission denied; choose a folder that you may write to",
    errno.EPERM: "permission denied; choose a folder that you may write to",
    errno.EEXIST: "a part of this path is a file, not a folder",
    errno.ENOTDIR: "a part of this path is a file, not a folder",
    errno.ENOENT: "there is no such file or folder",
}


def store_error(path: Path | str, error: OSError) -> StoreError:
    """An OSError in words that say what to do."""
    advice = _ADVICE.get(error.errno or 0, (error.strerror or str(error)).lower())
    return StoreError(f"{path}: {advice}")


@contextlib.contextmanager
def write_atomic(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file object whose content replaces `path` when the block ends well, and vanishes when it does not.

    Raises StoreError where the disk is full, read-only or forbidden; what stood at `path` stays.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    encoding = None if "b" in mode else "utf-8"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        sync_folder(path.parent)
    except OSError as error:
        raise store_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` survive a power cut, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text`, atomically."""
    with write_atomic(path) as file:
        file.write(text)


def write_json(path: Path, value: object) -> None:
    """Replace `path` by `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def as_json(value: object) -> Any:
    """A value as it would be read back from JSON: tuples are lists."""
    return json.loads(json.dumps(value))


def write_jsonl(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    """Replace `path` by one JSON object a line, atomically; returns how many."""
    count = 0
    with write_atomic(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_json(path: Path) -> Any:
    """What `write_json` wrote. Raises StoreError where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise store_error(path, error) from None
    except ValueError:
        raise damaged(path) from None


def read_object(path: Path, *keys: str) -> dict[str, Any]:
    """An object that `write_json` wrote, with at least these keys. Raises StoreError where it is missing or damaged."""
    record = read_json(path)
    if not isinstance(record, dict) or not record.keys() >= set(keys):
        raise damaged(path)
    return record


def damaged(path: Path) -> StoreError:
    """A file of Potstill's own that somebody else changed."""
    return StoreError(f"{path}: does not hold what Potstill wrote any more; remove it and run the same command again")


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file that Potstill wrote, one at a time. Raises StoreError where it is missing or damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)
    except OSError as error:
        raise store_error(path, error) from None
    except ValueError:
        raise damaged(path) from None


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise store_error(path, error) from None


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=str)


def canonical(value: object) -> str:
    """A value as JSON text, keys sorted: equal values have equal texts, in every process."""
    return _CANONICAL.encode(value)


def fingerprint(value: object) -> str:
    """SHA-256 of a value's canonical JSON, in hex: equal values have equal fingerprints, in every process."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()

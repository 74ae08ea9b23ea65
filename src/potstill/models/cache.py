"""Where Potstill keeps what it fetched: one folder a user, another by POTSTILL_CACHE."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path

from potstill.errors import StoreError
from potstill.store.atomic import store_error


def cache_folder() -> Path:
    """The cache folder; it need not be there yet."""
    chosen = os.environ.get("POTSTILL_CACHE")
    return Path(chosen).expanduser().absolute() if chosen else user_cache_path("potstill")


def writable_cache_folder() -> Path:
    """The cache folder, made where it was missing. Raises StoreError where nothing can be written there."""
    folder = cache_folder()
    probe = folder / f".writable.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        problem = store_error(folder, error)
        raise StoreError(f"the cache folder {problem}; or name another one in the environment variable POTSTILL_CACHE") from None
    return folder

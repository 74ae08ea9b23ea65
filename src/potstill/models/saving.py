"""Writing weights: what goes wrong on the disk, in words. Weight formats hide it in errors of their own."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from potstill.errors import StoreError
from potstill.store.atomic import store_error

_LOW_DISK_BYTES = 2**20
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")  # safetensors
_TORCH_WRITER = "inline_container"  # torch.save, which keeps the reason to itself


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns failures of writing weights at or below `path` (disk or quota full, file too large) into StoreErrors."""
    from safetensors import SafetensorError

    try:
        yield
    except OSError as error:
        raise store_error(path, error) from error
    except (SafetensorError, RuntimeError) as error:
        said = _SYSTEM_ERROR.search(str(error))
        if said:
            raise store_error(path, OSError(int(said.group(1)), str(error))) from error
        if shutil.disk_usage(path.parent).free < _LOW_DISK_BYTES or "No space left" in str(error):
            raise StoreError(f"{path}: the disk is full; free some space and run the same command again: what was done is kept") from error
        if _TORCH_WRITER in str(error):
            raise StoreError(
                f"{path}: cannot be written to its end; is a quota used up, or a file larger than `ulimit -f` allows? Then run the same "
                "command again: what was done is kept"
            ) from error
        raise

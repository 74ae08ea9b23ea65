"""How training uses a CPU: which library multiplies its matrices, and what becomes of freed memory."""

from __future__ import annotations

import ctypes
import functools

from potstill.models.products import fast_products

__all__ = ["fast_products", "keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc's names (malloc.h) of how much free memory is given back, and of the size from which memory is mapped apart."""


@functools.cache
def keep_freed_memory() -> None:
    """Have the C library keep the memory that one step frees for the next, which is of the same size.

    Given back and fetched again it would be zeroed page by page by the kernel: a fifth of a step. Only glibc
    knows this; elsewhere nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    # Older versions refuse more than 32 MiB.
    if any(mallopt(_MMAP_THRESHOLD, size) for size in (2**30, 2**25)):
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)

"""Which library multiplies float32 matrices on a CPU."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def fast_products() -> Iterator[None]:
    """While it lasts, float32 products on a CPU are oneDNN's, where those are as exact as any in float32.

    PyTorch multiplies float32 by MKL, which uses AVX-512 on Intel's processors alone; oneDNN does on all, and is twice as fast on
    others. PyTorch hands products to oneDNN once it allows operands rounded to bfloat16; oneDNN rounds them only on processors with
    units for it (AMX, some ARM), and there nothing is changed. The setting holds for the whole process.
    """
    if not _onednn_is_exact():
        yield
        return
    with _onednn():
        yield


@contextlib.contextmanager
def _onednn() -> Iterator[None]:
    products = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before


@functools.cache
def _onednn_is_exact() -> bool:
    """Whether a product through oneDNN has float32's precision on this machine; rounded to bfloat16 it would be off by 1e-3."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    generator = torch.Generator().manual_seed(0)
    left, right = torch.rand(256, 256, generator=generator), torch.rand(256, 256, generator=generator)
    exact = left.double() @ right.double()
    with _onednn():
        found = left @ right
    return bool(((found - exact).abs() < 1e-5 * exact).all())

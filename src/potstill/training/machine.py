"""How training uses a machine: in which number format it multiplies, and what becomes of freed memory."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from potstill.errors import TrainingError
from potstill.models.products import fast_products
from potstill.spec.sections import Precision

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""glibc's names (malloc.h) of how much free memory is given back, and of the size from which memory is mapped apart."""

_CLEARLY = 1.25
"""So many times as fast bfloat16 must be: it rounds, and what stands around the products gains nothing."""
_SMALL = 256
"""Models below this width spend their time on other things than products, whose speed would not be told from noise."""
_TOKENS, _ROUNDS = 1024, 40


def choose_precision(module: Any) -> Precision:
    """The number format in which this machine trains such a model faster: measured on a CPU, by what it can do on other devices."""
    config, device = module.config.get_text_config(), module.device
    if device.type == "cuda":
        return "bfloat16" if _knows_bfloat16(device) else "float32"
    if device.type != "cpu" or config.hidden_size < _SMALL:
        return "float32"
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    return "bfloat16" if _gain(config.hidden_size, inner) >= _CLEARLY else "float32"


def require_precision(precision: Precision, device: torch.device) -> None:
    """Raise TrainingError where the device cannot multiply in this number format."""
    if precision == "bfloat16" and not _knows_bfloat16(device):
        raise TrainingError(f"`precision: bfloat16`: this device ({device}) does not know bfloat16; set `float32`, or `auto`")


def _knows_bfloat16(device: torch.device) -> bool:
    return device.type == "cpu" or (device.type == "cuda" and torch.cuda.is_bf16_supported())


def round_products(module: Any, dtype: torch.dtype) -> None:
    """Round, in place, the float32 weights of a frozen model's linear layers that autocast to `dtype` would round in every pass.

    The output head is left alone, and with it a table that tokens are looked up in.
    """
    head = module.get_output_embeddings()
    for layer in module.modules():
        if isinstance(layer, nn.Linear) and layer is not head and layer.weight.dtype == torch.float32:
            layer.to(dtype)
    # All weights may be parts of one file mapped into memory: it goes when none of them needs it.
    for weight in module.parameters():
        if weight.dtype != dtype:
            weight.data = weight.data.clone()


@functools.cache
def _gain(width: int, inner: int) -> float:
    """How many times as fast as float32 a core of this processor multiplies bfloat16, casts included."""
    # No random numbers: those belong to the seed.
    hidden_ND, weight_ED = torch.ones(_TOKENS, width), torch.ones(inner, width)
    rounded_ND = hidden_ND.bfloat16()
    exact, rounded = [], []
    # One thread's processor time, in turn, many times, and the least of each: what else runs on the machine can only add.
    with _one_thread():
        for _ in range(_ROUNDS):
            with fast_products():
                exact.append(_seconds(lambda: nn.functional.linear(hidden_ND, weight_ED)))
            rounded.append(_seconds(lambda: nn.functional.linear(rounded_ND, weight_ED.bfloat16())))
    return min(exact) / min(rounded)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _seconds(product: Callable[[], Tensor]) -> float:
    begun = time.thread_time()
    product()
    return time.thread_time() - begun


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

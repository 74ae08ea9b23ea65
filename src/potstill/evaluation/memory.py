"""What a model takes: parameters, bytes of its weights, bytes on disk, and the memory of the process that runs it."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from potstill.errors import StoreError
from potstill.models import catalogue
from potstill.models.base import Model
from potstill.models.embedded import SMOLLM2
from potstill.models.folder import count_parameters, read_header, weight_files
from potstill.spec import WeightsSpec
from potstill.store.atomic import store_error

if TYPE_CHECKING:
    from torch import nn

_STATUS = Path("/proc/self/status")
CLEAR_REFS = Path("/proc/self/clear_refs")
_NUMBERS = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}

Sizes = dict[str, int | None]


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """Resident memory of this process, in bytes; None where the system does not tell.

    `peak` is the most since the last `reset_peak`; `file` counts pages that are mapped from files (weights often are), which the
    system may drop and read again, `anonymous` those that it cannot drop.
    """

    resident: int | None
    peak: int | None
    anonymous: int | None
    file: int | None


def process_memory() -> ProcessMemory:
    """The memory of this process now; Linux tells, other systems do not.

    The kernel's VmHWM is read and not `ru_maxrss`, which a child inherits from the process that started it.
    """
    if sys.platform != "linux":
        return ProcessMemory(None, None, None, None)
    fields = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
    resident, peak, anonymous, file = (_kilobytes(fields.get(name)) for name in ("VmRSS", "VmHWM", "RssAnon", "RssFile"))
    return ProcessMemory(resident, peak, anonymous, file)


def reset_peak(clear_refs: Path = CLEAR_REFS) -> bool:
    """Let `peak` count from now; False where the system cannot (no Linux, or a container that forbids it)."""
    try:
        clear_refs.write_text("5")
    except OSError:
        return False
    return True


def peaks_of(empty: ProcessMemory, full: ProcessMemory, *, apart: bool) -> Sizes:
    """`peak_bytes` and `peak_above_empty_bytes` of answering, from memory before the model was loaded and after the last answer.

    None where the system does not tell, and where the peak was not reset in between (`apart`): it may be that of loading.
    """
    peak = full.peak if apart else None
    above = None if peak is None or empty.resident is None else peak - empty.resident
    return {"peak_bytes": peak, "peak_above_empty_bytes": above}


def profile_memory(model: Model | Path) -> Sizes:
    """`parameters`, `weights_bytes` (in memory), `disk_bytes`; None: cannot be measured, as for a model behind an endpoint.

    Of a folder the headers of its safetensors files are read: tensors count as they are stored. A loaded model tells what it holds.
    Raises StoreError where the folder is not there, ModelError where it holds no safetensors weights.
    """
    if isinstance(model, Path):
        return _profile_folder(model)
    module = getattr(model, "module", None)
    if module is None:
        return {"parameters": None, "weights_bytes": None, "disk_bytes": None}
    parameters, weights_bytes = count_weights(module)
    return {"parameters": parameters, "weights_bytes": weights_bytes, "disk_bytes": None}


def count_weights(module: nn.Module) -> tuple[int, int]:
    """Parameters of a torch module and their bytes in memory; a tied head is counted once."""
    parameters = list(module.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() * p.element_size() for p in parameters)


def disk_bytes(path: Path) -> int:
    """Bytes of a file, or of all files below a folder. Raises StoreError where it is not there."""
    try:
        return path.stat().st_size if path.is_file() else sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    except OSError as error:
        raise store_error(path, error) from None


def storage_format(path: Path) -> str:
    """In which numbers a model's file or folder holds most of its weights, as `float32`, `bfloat16`; `GGUF` for a GGUF file.

    Raises ModelError where a folder holds no safetensors weights.
    """
    if path.is_file():
        return path.suffix.removeprefix(".").upper()
    held: Counter[str] = Counter()
    for file in weight_files(path):
        for tensor in read_header(file).values():
            start, end = tensor["data_offsets"]
            held[tensor["dtype"]] += end - start
    [(name, _)] = held.most_common(1)
    return _NUMBERS.get(name, name.lower())


def shipped_bytes(weights: WeightsSpec) -> int | None:
    """Size of the file that a model is published as, where Potstill measures a converted copy of it (the embedded teacher's GGUF)."""
    entry = catalogue.find(str(weights.model))
    return SMOLLM2.size if entry is not None and entry.embedded and weights.revision is None else None


def _profile_folder(folder: Path) -> Sizes:
    if not folder.exists():
        raise StoreError(f"{folder}: there is no such folder")
    tensors = [tensor for file in weight_files(folder) for tensor in read_header(file).values()]
    stored = sum(end - start for start, end in (tensor["data_offsets"] for tensor in tensors))
    return {"parameters": count_parameters(folder), "weights_bytes": stored, "disk_bytes": disk_bytes(folder)}


def _kilobytes(text: str | None) -> int | None:
    return None if text is None else int(text.split()[0]) * 1024

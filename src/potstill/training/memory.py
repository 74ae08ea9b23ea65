"""How many rows training has room for at once: measured on the longest of them, before a step is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from potstill.training.batches import TokenRows, collate
from potstill.training.head import output_head
from potstill.training.kernel import chunk_size
from potstill.training.learner import Learner

_BYTES_A_TRAINED_WEIGHT = 12
"""Its gradient, and AdamW's two moments; the weight itself is there already."""
_CHUNKS = 4
"""Logits of a chunk, those of the teacher, and what is made of them."""


@dataclass(frozen=True)
class Room:
    """How many of the longest rows fit at once, and the bytes that one of them takes; None where nobody says how much memory is free."""

    rows: int | None
    row_bytes: int

    def advice(self, together: int, section: str = "training") -> str:
        """What to do where `together` rows at once are too many; `section` of the spec says how many there are."""
        smaller = f"lower `{section}.max_length`, or choose a smaller student"
        if together == 1 or self.rows == 0:
            return smaller
        value = "lower" if self.rows is None or self.rows >= together else f"to {self.rows}"
        takes = f"the longest row takes about {max(self.row_bytes / 2**20, 1):,.0f} MB: " if self.row_bytes else ""
        return f"{takes}set `{section}.micro_batch_size` {value} (fewer rows at once, in as many steps), then {smaller}"


def room(learner: Learner, rows: TokenRows, pad_id: int, free: int | None) -> Room:
    """How many of the longest rows go through the learner at once in `free` bytes (None: not known).

    Counted is what one forward pass of the longest row keeps for its backward pass, twice (gradients are as large), beside gradients,
    AdamW's moments and the kernel's chunk.
    """
    row = 2 * _kept_bytes(learner, rows, pad_id)
    if free is None:
        return Room(None, row)
    trained = sum(weight.numel() for weight in learner.parameters() if weight.requires_grad)
    head = output_head(learner.student)
    logits = 4 * head.weight_VD.shape[0] * chunk_size(head)
    left = free - _BYTES_A_TRAINED_WEIGHT * trained - _CHUNKS * logits
    return Room(max(0, left // max(row, 1)), row)


def make_room(learner: Learner, rows: TokenRows, pad_id: int, free: int | None) -> tuple[Room, bool]:
    """`room`; and whether layers keep only what goes into them from now on, and compute the rest a second time in the backward pass
    (gradient checkpointing): so it is where not one row would fit otherwise, and the student knows how. It takes longer.

    Features are looked at while layers compute, and so rule it out. The learner is in training mode afterwards.
    """
    learner.train()
    found = room(learner, rows, pad_id, free)
    if found.rows != 0 or learner.features is not None or not learner.student.supports_gradient_checkpointing:
        return found, False
    learner.student.gradient_checkpointing_enable({"use_reentrant": False})
    return room(learner, rows, pad_id, free), True


def free_bytes(device: torch.device) -> int | None:
    """Memory of a device that is free now; None where nobody says."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    table = Path("/proc/meminfo")
    if device.type != "cpu" or not table.is_file():
        return None
    found = [line.split() for line in table.read_text().splitlines() if line.startswith("MemAvailable:")]
    return int(found[0][1]) * 1024 if found else None


def _kept_bytes(learner: nn.Module, rows: TokenRows, pad_id: int) -> int:
    """Bytes that a forward pass of the longest row keeps, weights apart."""
    device = next(learner.parameters()).device
    weights = {weight.untyped_storage().data_ptr() for weight in learner.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = collate([rows[int(rows.lengths.argmax())]], pad_id).to(device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = learner(batch)  # held, so that what it keeps is not freed and counted once for two tensors
    del loss
    return sum(kept.values())

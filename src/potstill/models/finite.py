"""Weights that are numbers: damaged ones teach nothing, and would be found out after the teacher was paid."""

from __future__ import annotations

from pathlib import Path

from potstill.errors import ModelError
from potstill.models.folder import weight_files


def check_finite(folder: Path) -> None:
    """Read all weights of a model folder, and raise ModelError where some are not finite, naming the file and the tensor."""
    from safetensors import safe_open

    for path in weight_files(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  it is no mapping
                weight = file.get_tensor(name)
                # Eight bits have no numbers beyond their own in some formats, and no function that looks for them.
                if weight.is_floating_point() and weight.itemsize > 1 and not weight.isfinite().all():
                    raise ModelError(f"{path}: {name} holds numbers that are not finite: the file is damaged; copy or download it again")

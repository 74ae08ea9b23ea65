"""How a distillation step's speed follows its size: tokens a batch, tokens a row, tokens of the vocabulary, layers of the student.

    PYTHONPATH=src PEERS/bin/python benchmarks/scaling.py [--steps 2] [--picture benchmarks/scaling.svg]

How PEERS (it has matplotlib) is made stands in kd_step.py. SmolLM2-135M-Instruct teaches a cut of itself by forward KL, half of each row
a prompt. One size varies at a time around 8 rows of 128 tokens, the whole vocabulary and 8 layers; each figure is the median of
`--steps` warm steps of Potstill's trainer, prompts counted.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from potstill.training.carve import carve, evenly_spaced
from potstill.training.machine import choose_precision
from potstill.training.objectives import OBJECTIVES, Ingredients
from potstill.training.targets.live_teacher import LiveTeacher
from steps import Clock, load_teacher, potstill_trainer, random_rows, show


@dataclass(frozen=True)
class Size:
    """The size of one step."""

    rows: int = 8
    length: int = 128
    vocabulary: int = 49_152
    layers: int = 8


VARIED = {
    "tokens a batch (rows of 128)": ("rows", [1, 2, 4, 8, 16], 128),
    "tokens a row (1,024 a batch)": ("length", [32, 64, 128, 256, 512], 1),
    "vocabulary of the student": ("vocabulary", [4096, 8192, 16_384, 32_768, 49_152], 1),
    "layers of the student": ("layers", [2, 4, 8, 16, 30], 1),
}


def tokens_per_s(teacher: object, size: Size, steps: int, bf16: bool) -> float:
    teacher.float()  # type: ignore[attr-defined]  # a step in bfloat16 has rounded it
    kept = np.arange(size.vocabulary)
    targets = LiveTeacher(teacher, size.vocabulary, kept)
    rows = random_rows(size.rows * (steps + 1), size.length, 0.5, size.vocabulary)
    layers = evenly_spaced(teacher.config.num_hidden_layers, size.layers)  # type: ignore[attr-defined]
    make = potstill_trainer(
        lambda: carve(teacher, layers, kept).train(), OBJECTIVES["logits"](Ingredients(targets)), rows, size.rows, bf16=bf16
    )
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = make(folder, steps + 1)
        trainer.add_callback(clock)
        trainer.train()
    return size.rows * size.length / statistics.median(clock.seconds[1:])


def sizes(name: str, values: list[int]) -> list[Size]:
    if name == "length":
        return [Size(rows=1024 // value, length=value) for value in values]
    return [replace(Size(), **{name: value}) for value in values]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--picture", type=Path, default=Path("benchmarks/scaling.svg"))
    chosen = parser.parse_args()
    teacher = load_teacher().module
    bf16 = choose_precision(teacher) == "bfloat16"
    known: dict[Size, float] = {}
    found = {}
    for label, (name, values, unit) in VARIED.items():
        for size in sizes(name, values):
            if size not in known:
                known[size] = tokens_per_s(teacher, size, chosen.steps, bf16)
        found[label] = {value * unit: round(known[size], 1) for value, size in zip(values, sizes(name, values), strict=True)}
    draw(found, chosen.picture)
    show({"tokens_per_s": found, "steps": chosen.steps, "bfloat16": bf16})


def draw(found: dict[str, dict[int, float]], picture: Path) -> None:
    """Tokens/s over each size."""
    figure, axes = plt.subplots(1, len(found), figsize=(13, 3.4), sharey=True, layout="constrained")
    for axis, (label, speeds) in zip(axes, found.items(), strict=True):
        axis.plot(list(speeds), list(speeds.values()), marker="o")
        axis.set(xlabel=label, xscale="log", xticks=list(speeds), xticklabels=[f"{place:,}" for place in speeds])
        axis.tick_params(axis="x", rotation=45)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set(ylabel="tokens/s", ylim=(0, 1.05 * max(max(speeds.values()) for speeds in found.values())))
    figure.savefig(picture)


if __name__ == "__main__":
    main()

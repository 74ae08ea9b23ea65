"""Steps of training on text: Potstill beside TRL's SFTTrainer, on equal rows.

    PYTHONPATH=src PEERS/bin/python benchmarks/sft_step.py [SIDE...] [--prompt 0.5] [--rounds 3] [--steps 2]

How PEERS is made stands in kd_step.py, and so does what is printed. An 8-layer cut of SmolLM2-135M, batch 8 rows of 256 tokens,
`--prompt` of each not trained (TRL: `completion_only_loss`). Sides: `potstill` and `bare` in the number format that training
chooses on this machine, `potstill_fp32`, `trl` as it comes (bfloat16 autocast, gradient
checkpointing), `trl_fp32` and `trl_bf16` without gradient checkpointing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from kd_step import BATCH, LAYERS, LENGTH, TUNED
from potstill.training.machine import choose_precision
from potstill.training.objectives import OBJECTIVES, Ingredients
from steps import (
    Seconds,
    bare_step,
    batch_of,
    by_loop,
    by_trainer,
    common_arguments,
    cut,
    load_teacher,
    masked_dataset,
    measure_sides,
    potstill_trainer,
    random_rows,
)


class Bench:
    """The weights and rows of all sides."""

    def __init__(self, prompt: float, steps: int) -> None:
        self.weights = load_teacher()
        self.prompt = prompt
        self.chosen = choose_precision(self.weights.module) == "bfloat16"
        self.rows = random_rows(BATCH * (steps + 1), LENGTH, prompt, self.weights.module.config.vocab_size)

    def student(self) -> Any:
        return cut(self.weights.module, LAYERS)

    def bare(self) -> Seconds:
        batch = batch_of(random_rows(BATCH, LENGTH, self.prompt, self.weights.module.config.vocab_size))
        return by_loop(bare_step(self.student(), batch, bf16=self.chosen))

    def potstill(self, bf16: bool | None = None) -> Seconds:
        bf16 = self.chosen if bf16 is None else bf16
        return by_trainer(potstill_trainer(self.student, OBJECTIVES["sft"](Ingredients()), self.rows, BATCH, bf16=bf16))

    def trl(self, tuning: str = "as_it_comes") -> Seconds:
        from trl import SFTConfig, SFTTrainer

        data = masked_dataset(self.rows)

        def make(folder: str, steps: int) -> Any:
            arguments = SFTConfig(**common_arguments(folder, steps, BATCH), max_length=LENGTH, completion_only_loss=True, **TUNED[tuning])
            return SFTTrainer(self.student(), arguments, train_dataset=data, processing_class=self.weights.tokenizer)

        return by_trainer(make)


SIDES: dict[str, Callable[[Bench], Seconds]] = {
    "potstill": Bench.potstill,
    "bare": Bench.bare,
    "potstill_fp32": partial(Bench.potstill, bf16=False),
    "trl": Bench.trl,
    "trl_fp32": partial(Bench.trl, tuning="fp32"),
    "trl_bf16": partial(Bench.trl, tuning="bf16"),
}


if __name__ == "__main__":
    measure_sides(SIDES, Bench, default=tuple(SIDES), tokens=BATCH * LENGTH, steps=2)

"""Distillation steps with a live teacher: Potstill beside TRL's GKD and DistillationTrainer, on equal rows.

    python -m venv PEERS
    python -c "import pathlib, torch; print(pathlib.Path(torch.__file__).parents[1])" > PEERS/lib/python3.11/site-packages/shared.pth
    PEERS/bin/pip install trl==1.16.0 peft==0.21.2 matplotlib
    PEERS/bin/pip install --no-deps liger-kernel==0.8.5
    PYTHONPATH=src PEERS/bin/python benchmarks/kd_step.py SIDE... [--prompt 0.5] [--rounds 3] [--steps 1]

SmolLM2-135M-Instruct teaches an 8-layer cut of itself by forward KL: batch 8 rows of 256 tokens, `--prompt` of each not trained. Each
round trains every side once, a first step not counted. Printed: median tokens/s (prompts counted), and the median of the rounds'
ratios of Potstill's speed to each side's, and each side's peak memory (weights and libraries included). Each side has a process of its
own.

Sides (`bare` and `potstill` always run):

- `potstill`: in the number format that training chooses on this machine. `potstill_fp32`: in float32.
- `bare`: the limit (see steps.py), in the number format that is chosen. `bare_fp32`: in float32.
- `gkd`: trl.experimental.gkd on given text (lmbda 0, beta 0: forward KL), all else as it comes: bfloat16 autocast, gradient checkpointing.
- `gkd_fp32`, `gkd_bf16`: tuned by hand: no gradient checkpointing.
- `gkd_fp32_onednn`: and with the switch that Potstill uses for float32 products, which TRL does not set.
- `distillation`, `distillation_fp32`, `distillation_bf16`: trl.DistillationTrainer (beta 0), its generation replaced by the same given
  completions; as it comes, and tuned likewise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from potstill.models.products import fast_products
from potstill.training.machine import choose_precision
from potstill.training.objectives import OBJECTIVES, Ingredients
from potstill.training.targets.live_teacher import LiveTeacher
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
    prompt_lengths,
    random_rows,
)

BATCH, LENGTH, LAYERS = 8, 256, 8
TUNED = {"as_it_comes": {}, "fp32": {"bf16": False, "gradient_checkpointing": False}, "bf16": {"gradient_checkpointing": False}}


class Bench:
    """The models and rows of all sides."""

    def __init__(self, prompt: float, steps: int) -> None:
        self.weights = load_teacher()
        self.teacher = self.weights.module
        self.prompt = prompt
        self.chosen = choose_precision(self.teacher) == "bfloat16"
        self.rows = random_rows(BATCH * (steps + 1), LENGTH, prompt, self.teacher.config.vocab_size)

    def student(self) -> Any:
        return cut(self.teacher, LAYERS)

    def bare(self, bf16: bool | None = None) -> Seconds:
        batch = batch_of(random_rows(BATCH, LENGTH, self.prompt, self.teacher.config.vocab_size))
        return by_loop(bare_step(self.student(), batch, self.teacher, bf16=self.chosen if bf16 is None else bf16))

    def potstill(self, bf16: bool | None = None) -> Seconds:
        objective = OBJECTIVES["logits"](Ingredients(LiveTeacher(self.teacher, self.teacher.config.vocab_size)))
        return by_trainer(potstill_trainer(self.student, objective, self.rows, BATCH, bf16=self.chosen if bf16 is None else bf16))

    def gkd(self, tuning: str = "as_it_comes") -> Seconds:
        from trl.experimental.gkd import GKDConfig, GKDTrainer

        data = masked_dataset(self.rows)

        def make(folder: str, steps: int) -> Any:
            arguments = GKDConfig(**common_arguments(folder, steps, BATCH), lmbda=0.0, beta=0.0, max_length=LENGTH, **TUNED[tuning])
            return GKDTrainer(self.student(), self.teacher, arguments, train_dataset=data, processing_class=self.weights.tokenizer)

        return by_trainer(make)

    def gkd_fp32_onednn(self) -> Seconds:
        plain = self.gkd("fp32")

        def seconds(steps: int) -> float:
            with fast_products():
                return plain(steps)

        return seconds

    def distillation(self, tuning: str = "as_it_comes") -> Seconds:
        from datasets import Dataset
        from trl import DistillationConfig, DistillationTrainer

        rows, prompts = self.rows, prompt_lengths(self.rows)

        class Given(DistillationTrainer):  # type: ignore[misc]
            """Answers are not generated but given; all else is theirs."""

            def _generate(self, asked: list[str]) -> tuple[Any, ...]:
                ids = [rows[int(place)].ids.tolist() for place in asked]
                starts = [prompts[int(place)] for place in asked]
                cut_up = [(row[:start], row[start:]) for row, start in zip(ids, starts, strict=True)]
                return [prompt for prompt, _ in cut_up], [answer for _, answer in cut_up], None, None, []

        data = Dataset.from_list([{"prompt": str(place)} for place in range(len(rows))])

        def make(folder: str, steps: int) -> Any:
            arguments = DistillationConfig(**common_arguments(folder, steps, BATCH), beta=0.0, **TUNED[tuning])
            return Given(self.student(), self.teacher, arguments, train_dataset=data, processing_class=self.weights.tokenizer)

        return by_trainer(make)


SIDES: dict[str, Callable[[Bench], Seconds]] = {
    "potstill": Bench.potstill,
    "bare": Bench.bare,
    "potstill_fp32": partial(Bench.potstill, bf16=False),
    "bare_fp32": partial(Bench.bare, bf16=False),
    "gkd": Bench.gkd,
    "gkd_fp32": partial(Bench.gkd, tuning="fp32"),
    "gkd_bf16": partial(Bench.gkd, tuning="bf16"),
    "gkd_fp32_onednn": Bench.gkd_fp32_onednn,
    "distillation": Bench.distillation,
    "distillation_fp32": partial(Bench.distillation, tuning="fp32"),
    "distillation_bf16": partial(Bench.distillation, tuning="bf16"),
}


if __name__ == "__main__":
    measure_sides(SIDES, Bench, default=(), tokens=BATCH * LENGTH, steps=1)

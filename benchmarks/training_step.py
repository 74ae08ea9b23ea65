"""Tokens per second of a training step on text: Potstill's trainer against a bare transformers.Trainer.

    python benchmarks/training_step.py [--teacher FOLDER] [--steps 8] [--repeats 5] [--threads 2]

Both sides train the same weights on the same batches in float32 with the same AdamW; rows are 48 to 192 tokens long, the
first half of each a prompt that is not trained. The model is an 8-layer cut of `--teacher` (by default the embedded teacher,
where it is cached; else a random Llama of 30 M weights). Runs are paired, one side after the other; the first step of each is
not counted. Printed: the median tokens/s of either side (padding not counted), and the median of the paired ratios.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from potstill.models.cache import cache_folder
from potstill.models.weights import load_weights
from potstill.spec.sections import WeightsSpec
from potstill.training.batches import LengthBatches, TokenRows
from potstill.training.carve import carve, evenly_spaced
from potstill.training.objectives import OBJECTIVES, Ingredients
from potstill.training.objectives.base import Lesson
from potstill.training.trainer import DistillationTrainer, Judge
from steps import by_trainer, common_arguments

BATCH, LAYERS = 8, 8


def student(teacher: Path | None) -> Any:
    if teacher is not None and teacher.exists():
        module = load_weights(WeightsSpec(model=str(teacher), device="cpu", dtype="float32")).module
        return carve(module, evenly_spaced(module.config.num_hidden_layers, LAYERS))
    sizes = {"vocab_size": 16_000, "hidden_size": 512, "intermediate_size": 1408, "num_attention_heads": 8}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=LAYERS, pad_token_id=0, tie_word_embeddings=True))


def token_rows(count: int, vocabulary: int) -> TokenRows:
    generator = np.random.default_rng(0)
    lengths = generator.integers(48, 193, count)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    trained = np.concatenate([np.arange(length) >= length // 2 for length in lengths])
    return TokenRows(generator.integers(3, vocabulary, starts[-1]).astype(np.int32), trained, starts, np.arange(count))


def arguments(folder: str, steps: int) -> TrainingArguments:
    return TrainingArguments(**common_arguments(folder, steps, BATCH) | {"learning_rate": 1e-4, "train_sampling_strategy": "sequential"})


def padded(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """What transformers' own collators give: padded ids, mask, and labels with prompts and padding ignored."""
    longest = max(len(row["input_ids"]) for row in rows)
    filled = {"input_ids": 0, "attention_mask": 0, "labels": -100}
    return {name: torch.tensor([row[name] + [fill] * (longest - len(row[name])) for row in rows]) for name, fill in filled.items()}


def bare(module: Any, rows: TokenRows, batches: LengthBatches, steps: int) -> float:
    order = [place for batch in batches for place in batch]
    data = [
        {
            "input_ids": rows[place].ids.tolist(),
            "attention_mask": [1] * len(rows[place].ids),
            "labels": np.where(rows[place].trained, rows[place].ids, -100).tolist(),
        }
        for place in order
    ]
    return by_trainer(lambda folder, all_steps: Trainer(module, arguments(folder, all_steps), data_collator=padded, train_dataset=data))(
        steps - 1
    )


def potstill(module: Any, rows: TokenRows, batches: LengthBatches, steps: int) -> float:
    lesson = Lesson(rows, batches, OBJECTIVES["sft"](Ingredients()))
    judge = Judge(None, lambda: None, True, 1)
    return by_trainer(lambda folder, all_steps: DistillationTrainer(module, lesson, judge, arguments(folder, all_steps)))(steps - 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--teacher", type=Path, default=next(iter(sorted(cache_folder().glob("models/*/config.json"))), Path("-")).parent)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    module = student(chosen.teacher if chosen.teacher != Path() else None)
    rows = token_rows(BATCH * chosen.steps, module.config.vocab_size)
    batches = LengthBatches(rows.lengths, BATCH, BATCH, seed=0)
    tokens = int(sum(rows.lengths[batch].sum() for batch in list(batches)[1:]))
    speeds: dict[str, list[float]] = {"bare": [], "potstill": []}
    for turn in range(chosen.repeats):
        sides = [("bare", bare), ("potstill", potstill)]
        for name, side in sides if turn % 2 == 0 else sides[::-1]:
            speeds[name].append(tokens / side(copy.deepcopy(module), rows, batches, chosen.steps))
    ratios = [ours / theirs for ours, theirs in zip(speeds["potstill"], speeds["bare"], strict=True)]
    result = {
        "model": f"{module.num_parameters() / 1e6:.1f} M weights, {LAYERS} layers, vocabulary {module.config.vocab_size:,}",
        "bare_tokens_per_s": round(statistics.median(speeds["bare"]), 1),
        "potstill_tokens_per_s": round(statistics.median(speeds["potstill"]), 1),
        "ratio_median": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "steps": chosen.steps - 1,
        "threads": chosen.threads,
        "machine": f"{platform.processor() or platform.machine()}, torch {torch.__version__}",
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

"""Cached teacher targets: their size, how near they come to whole distributions, and what an epoch on them costs.

    python benchmarks/cached_targets.py size|speed|learning [--tiny] [--positions answer|all] [--rows 32] [--layers 8] [--threads 2]

Rows are docstrings of the standard library with their summary lines; the teacher is the embedded one, where it is cached (`--teacher` names
another), and the student an evenly spaced cut of it. With `--tiny`: a random teacher of few weights, and rows of random tokens. Printed,
as JSON:

size      bytes a token, different tokens a position, error of the mean of n drawn gradients, drawn as Potstill does and independently
speed     tokens/s of paired epochs: text alone (`sft`), live teacher, cached top-k, cached draws
learning  forward KL to whole distributions, of students that learnt from each kind of target
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments

from potstill.demo import docstring_pairs
from potstill.models.cache import cache_folder
from potstill.models.weights import Weights, load_weights
from potstill.records import Example, Message
from potstill.spec.sections import WeightsSpec
from potstill.store.events import EventLog
from potstill.training.batches import LengthBatches, TokenRows, collate
from potstill.training.carve import carve, evenly_spaced
from potstill.training.distributions import Dense, Sparse
from potstill.training.head import output_head, trained_hidden
from potstill.training.kernel import Pull, pulled_loss
from potstill.training.losses import Divergence, cross_entropy, forward_kl
from potstill.training.objectives import OBJECTIVES, Ingredients
from potstill.training.objectives.base import Lesson, Objective
from potstill.training.rows import Positions, encode_rows
from potstill.training.targets import LiveTeacher, StoredTargets, Targets
from potstill.training.targets.cache import TargetCache
from potstill.training.targets.filling import Filling, fill
from potstill.training.targets.packing import Packing, SampledPacking, TopKPacking
from potstill.training.targets.reduce import Reduction, Sampled, TopK
from potstill.training.trainer import DistillationTrainer, Judge

BATCH = 8


def tiny() -> Any:
    """A random teacher of a few weights, whose distributions are as wide as those of a language model."""
    sizes = {"vocab_size": 4_000, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**sizes, num_hidden_layers=16, initializer_range=0.5, tie_word_embeddings=True))


def docstring_rows(weights: Weights, count: int, positions: Positions) -> tuple[TokenRows, TokenRows]:
    """Docstrings of the standard library with their summary lines: `count` rows to learn from, and 16 others."""
    pairs = list(itertools.islice(docstring_pairs(), 4 * (count + 16)))[::4]
    examples = [
        Example(row.id, (*row.messages, Message("assistant", row.reference[0])), trained_turns=(len(row.messages),)) for row in pairs
    ]
    parts = (examples[:count], examples[count:])
    learnt, unseen = (encode_rows(weights.tokenizer, part, max_length=256, positions=positions).rows for part in parts)
    return learnt, unseen


def random_rows(vocabulary: int, count: int) -> TokenRows:
    generator = np.random.default_rng(0)
    lengths = generator.integers(48, 129, count)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    trained = np.concatenate([np.arange(length) >= length // 2 for length in lengths])
    return TokenRows(generator.integers(3, vocabulary, starts[-1]).astype(np.int32), trained, starts, np.arange(count))


def cached(teacher: LiveTeacher, rows: TokenRows, reduction: Reduction, packing: Packing, folder: Path) -> TargetCache:
    cache = TargetCache(folder, {"reduction": repr(reduction)}, packing)
    fill(cache, rows, Filling(lambda: teacher, reduction, 0, EventLog()))
    return cache


def mean_loss(student: Any, rows: TokenRows, targets: Targets, divergence: Divergence) -> float:
    """Nats a trained token, before any training."""
    total, count = 0.0, 0
    with torch.no_grad():
        for places in LengthBatches(rows.lengths, BATCH, BATCH, seed=0):
            batch = collate([rows[place] for place in places], 0)
            total += float(pulled_loss(trained_hidden(student, batch), output_head(student), [Pull(targets.at(batch), divergence)]))
            count += len(batch.labels_N)
    return total / count


def errors_of_the_mean(student: Any, teacher: LiveTeacher, rows: TokenRows, samples: int, independent: bool) -> dict[int, float]:
    """‖mean of n drawn gradients − dense gradient‖ / ‖dense gradient‖, by the logits of a few positions."""
    batch = collate([rows[0], rows[1]], 0)
    with torch.no_grad():
        scores = output_head(student).logits(trained_hidden(student, batch))[:16].float()
        logits = teacher.at(batch)(slice(0, 16)).logits_nV  # type: ignore[attr-defined]
    exact = Dense(logits).pull(scores, cross_entropy)[1]
    total, found = torch.zeros_like(exact), {}
    generator = np.random.default_rng(0)
    draws = torch.Generator().manual_seed(0)
    for turn in range(1, 257):
        if independent:
            names = torch.multinomial(logits.softmax(dim=-1), samples, replacement=True, generator=draws)
            total += _independent(names, scores, samples)
        else:
            kept = Sampled(samples)(logits, generator.random(len(logits)))
            sparse = Sparse(torch.from_numpy(kept.ids_PK).long(), torch.from_numpy(kept.logp_PK))
            total += sparse.pull(scores, cross_entropy)[1]
        if turn in (1, 4, 16, 64, 256):
            found[turn] = round(float((total / turn - exact).norm() / exact.norm()), 4)
    return found


def _independent(names_nK: torch.Tensor, scores_nV: torch.Tensor, samples: int) -> torch.Tensor:
    p_nV = torch.zeros_like(scores_nV).scatter_add_(1, names_nK, torch.full(names_nK.shape, 1.0 / samples))
    return scores_nV.softmax(dim=-1) - p_nV


def train(module: Any, rows: TokenRows, objective: Objective, *, epochs: int, rate: float, seed: int = 0, bf16: bool = False) -> float:
    """Seconds of so many epochs, all weights trained."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, num_train_epochs=epochs, learning_rate=rate, use_cpu=True, report_to=[], disable_tqdm=True, save_strategy="no",
            logging_strategy="no", dataloader_pin_memory=False, log_level="error", bf16=bf16,
        )  # fmt: skip
        lesson = Lesson(rows, LengthBatches(rows.lengths, BATCH, BATCH, seed=seed), objective)
        trainer = DistillationTrainer(module, lesson, Judge(None, lambda: None, True, 1), arguments)
        started = time.perf_counter()
        trainer.train()
        return time.perf_counter() - started


def paired(student: Any, rows: TokenRows, objectives: dict[str, Objective], repeats: int) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {name: [] for name in objectives}
    for turn in range(repeats + 1):
        names = list(objectives) if turn % 2 else list(objectives)[::-1]
        for name in names:
            spent = train(copy.deepcopy(student), rows, objectives[name], epochs=1, rate=1e-4)
            if turn:  # the first warms up
                seconds[name].append(spent)
    tokens = int(rows.lengths.sum())
    ratios = {name: [text / own for text, own in zip(seconds["sft"], spent, strict=True)] for name, spent in seconds.items()}
    return {
        name: {
            "tokens_per_s": round(tokens / statistics.median(spent), 1),
            "against_sft": round(statistics.median(ratios[name]), 3),
            "range": [round(min(ratios[name]), 3), round(max(ratios[name]), 3)],
        }
        for name, spent in seconds.items()
    }


@dataclass(frozen=True)
class Bench:
    """Models, rows, and the targets of each kind."""

    module: Any
    student: Any
    rows: TokenRows
    unseen: TokenRows
    live: LiveTeacher
    caches: dict[str, TargetCache]
    samples: list[int]
    filled_s: float

    @classmethod
    def of(cls, chosen: argparse.Namespace, folder: Path) -> Bench:
        if chosen.tiny:
            module = tiny()
            rows, unseen = (random_rows(module.config.vocab_size, count) for count in (chosen.rows, 16))
        else:
            weights = load_weights(WeightsSpec(model=str(chosen.teacher), device="cpu", dtype="float32"))
            module = weights.module
            rows, unseen = docstring_rows(weights, chosen.rows, chosen.positions)
        student, vocabulary = carve(module, evenly_spaced(module.config.num_hidden_layers, chosen.layers)), module.config.vocab_size
        live = LiveTeacher(module, vocabulary)
        started = time.perf_counter()
        caches = {"top_k 32": cached(live, rows, TopK(32), TopKPacking(vocabulary, "float16"), folder)}
        filled_s = time.perf_counter() - started
        caches |= {f"sampled {n}": cached(live, rows, Sampled(n), SampledPacking(vocabulary, n), folder) for n in chosen.samples}
        return cls(module, student, rows, unseen, live, caches, chosen.samples, filled_s)

    @property
    def stored(self) -> dict[str, Targets]:
        return {kind: StoredTargets(cache.rows(self.rows)) for kind, cache in self.caches.items()}

    def size(self) -> dict[str, Any]:
        places = np.arange(self.caches["top_k 32"].positions)
        named = {kind: (cache.rows(self.rows).take(places).ids_PK >= 0).sum(axis=1).mean() for kind, cache in self.caches.items()}
        return {
            "bytes_a_token": {kind: round(cache.size / cache.positions, 1) for kind, cache in self.caches.items()},
            "different_tokens_a_position": {kind: round(float(count), 2) for kind, count in named.items()},
            "filling_tokens_per_s": round(float(self.rows.lengths.sum()) / self.filled_s, 1),
            "error_of_the_mean": {
                f"{how}, {n} draws": errors_of_the_mean(self.student, self.live, self.rows, n, how == "independent")
                for how in ("evenly spaced", "independent")
                for n in self.samples
            },
        }

    def speed(self, repeats: int) -> dict[str, Any]:
        objectives = {"sft": OBJECTIVES["sft"](Ingredients()), "live": OBJECTIVES["logits"](Ingredients(self.live))}
        objectives |= {kind: OBJECTIVES["logits"](Ingredients(targets)) for kind, targets in self.stored.items()}
        return paired(self.student, self.rows, objectives, repeats)

    def learning(self, epochs: int, seeds: int) -> dict[str, Any]:
        """Forward KL to the whole distributions, in nats a token, of students that learnt from each kind of target, one a seed (it orders
        the rows); all but the last in float32."""
        found: dict[str, Any] = {"untrained": self._distances(self.student)}
        kinds: dict[str, Targets] = {"live": self.live, **self.stored, "live, bfloat16": self.live}
        for seed in range(seeds):
            for kind, targets in kinds.items():
                learner = copy.deepcopy(self.student)
                train(
                    learner,
                    self.rows,
                    OBJECTIVES["logits"](Ingredients(targets)),
                    epochs=epochs,
                    rate=1e-3,
                    seed=seed,
                    bf16="bfloat16" in kind,
                )
                for rows, distance in self._distances(learner.eval()).items():
                    found.setdefault(kind, {}).setdefault(rows, []).append(distance)
                print(f"seed {seed}, {kind}: {found[kind]}", file=sys.stderr, flush=True)
        return {kind: _against(figures, found["live"]) if kind != "untrained" else figures for kind, figures in found.items()}

    def _distances(self, student: Any) -> dict[str, float]:
        sets = {"rows learnt": self.rows, "rows unseen": self.unseen}
        return {name: round(mean_loss(student, rows, self.live, forward_kl), 4) for name, rows in sets.items()}


def _against(figures: dict[str, list[float]], live: dict[str, list[float]]) -> dict[str, Any]:
    """Each seed's distance, and the mean of how much longer it is than that of the live teacher's student, in per cent."""
    longer = {rows: [100 * (own / other - 1) for own, other in zip(found, live[rows], strict=True)] for rows, found in figures.items()}
    return {rows: {"nats": found, "longer_%": round(statistics.mean(longer[rows]), 2)} for rows, found in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=["size", "speed", "learning"])
    parser.add_argument("--teacher", type=Path, default=next(iter(sorted(cache_folder().glob("models/*/config.json"))), Path("-")).parent)
    parser.add_argument("--tiny", action="store_true", help="a random teacher of few weights instead")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--positions", choices=["answer", "all"], default="answer")
    parser.add_argument("--samples", type=int, nargs="+", default=[12, 25], help="draws a position")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3, help="of speed")
    parser.add_argument("--epochs", type=int, default=3, help="of learning")
    parser.add_argument("--seeds", type=int, default=1, help="of learning")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench.of(chosen, Path(folder))
        parts = {
            "size": bench.size,
            "speed": lambda: bench.speed(chosen.repeats),
            "learning": lambda: bench.learning(chosen.epochs, chosen.seeds),
        }
        result = {
            "teacher": f"{bench.module.num_parameters() / 1e6:.1f} M weights, vocabulary {bench.module.config.vocab_size:,}",
            "student": f"{bench.student.num_parameters() / 1e6:.1f} M weights, {chosen.layers} layers",
            "rows": len(bench.rows),
            "trained_tokens": bench.caches["top_k 32"].positions,
            chosen.part: parts[chosen.part](),
            "threads": chosen.threads,
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

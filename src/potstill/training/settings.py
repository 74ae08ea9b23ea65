"""The `auto` rules of `training`: what is chosen where the spec leaves it open, and why. No torch here."""

from __future__ import annotations

import math
from typing import Literal

from potstill.spec.sections import RunSpec

MIN_BATCH, MAX_BATCH = 8, 32
MIN_STEPS = 100


def auto_learning_rate(parameters: int, *, carved: bool, adapters: bool = False) -> float:
    """Peak AdamW rate for `parameters` trained weights: a power law through rates that worked, to two digits.

    Whole models: 3e-4 · (135 M / parameters)^0.8, which meets 3e-4 at 135 M (measured), 2e-5 at 4 B and 1e-5 at 8 B (the usual
    full fine-tuning rates). Carved ones have a gap to heal, and bear more: 5e-4 · (70 M / parameters)^(2/3), which meets
    1e-3 at 25 M and 5e-4 at 70 M (both measured) and 3e-5 at 4 B. Never above 1e-3. Adapters: 2e-4 (Dettmers et al. 2023, arXiv
    2305.14314, table 9), or the whole model's rate where that is higher.
    """
    rate = 5e-4 * (70e6 / parameters) ** (2 / 3) if carved else 3e-4 * (135e6 / parameters) ** 0.8
    if adapters:
        rate = max(rate, 2e-4)
    return float(f"{min(rate, 1e-3):.1e}")


def auto_batch_size(rows: int, epochs: float) -> int:
    """Rows a step: the largest of 8, 16, 32 that leaves at least 100 steps; 8 where none does.

    Small sets need steps more than they need smooth gradients; beyond 32 rows a fine-tuning gains little for its time.
    """
    fitting = rows * epochs / MIN_STEPS
    power: int = 2 ** math.floor(math.log2(max(fitting, 1)))
    return min(max(power, MIN_BATCH), MAX_BATCH)


LIVE: Literal["live"] = "live"
NEEDS_LIVE_TEACHER = ("features", "on_policy")
"""Objectives that ask the teacher for more than what it says of given rows."""


def targets_kind(spec: RunSpec) -> Literal["live", "top_k", "sampled", "logprobs", "votes"]:
    """Where the teacher's probabilities come from; of `auto`, what is cheaper.

    A live teacher reads every row in every epoch, a cached one reads it once: with more than one epoch the cache saves all but the first
    reading, for some 130 bytes a trained token. With one epoch or less it would save nothing, and keep less of the distribution. Several
    teachers, and those with other tokenizers, are not cached.
    """
    if spec.training.objective in NEEDS_LIVE_TEACHER:
        return LIVE
    if spec.targets.kind == "auto":
        alone = len(spec.all_teachers) == 1 and not spec.targets.align
        return "top_k" if spec.training.epochs > 1 and alone else LIVE
    return spec.targets.kind


def warmup_steps(steps: int, ratio: float) -> int:
    """Steps in which the rate rises, rounded up: a first step at the full rate is what warm-up is there to avoid."""
    return math.ceil(steps * ratio)


def evaluation_steps(steps: int, evaluations: int) -> tuple[int, ...]:
    """After which steps the validation metric is taken: evenly spaced, the last step among them."""
    times = min(evaluations, steps)
    return tuple(math.ceil(steps * (turn + 1) / times) for turn in range(times))

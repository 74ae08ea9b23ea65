"""What the benchmarks of training share: models, rows, a clock for steps, sides in pairs, and a side's peak memory in a process of its own.

Rows hold random tokens: what they say changes neither arithmetic nor memory.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainingArguments

from potstill.models.products import fast_products
from potstill.models.weights import Weights, load_weights
from potstill.spec.sections import WeightsSpec
from potstill.training.batches import Batch, LengthBatches, TokenRows, collate
from potstill.training.carve import carve, evenly_spaced
from potstill.training.head import output_head, trained_hidden
from potstill.training.machine import keep_freed_memory, round_products
from potstill.training.objectives.base import Lesson, Objective
from potstill.training.trainer import DistillationTrainer, Judge

TEACHER = "smollm2-135m-instruct"

MakeTrainer = Callable[[str, int], Trainer]
"""A trainer of fresh weights that writes into a folder and makes so many steps."""
Seconds = Callable[[int], float]
"""Seconds of so many steps, a first one not counted."""

_ANSWER = "side: "


class Clock(TrainerCallback):
    """Seconds of each step, and after the first a fresh peak of memory."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._begun = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._begun = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds.append(time.perf_counter() - self._begun)
        if len(self.seconds) == 1:
            forget_peak_memory()


def load_teacher() -> Weights:
    return load_weights(WeightsSpec(model=TEACHER, device="cpu", dtype="float32"))


def cut(module: Any, layers: int) -> Any:
    return carve(module, evenly_spaced(module.config.num_hidden_layers, layers)).train()


def random_rows(count: int, length: int, prompt_share: float, vocabulary: int) -> TokenRows:
    """Rows of one length; the first `prompt_share` of each is not trained."""
    ids = np.random.default_rng(0).integers(3, vocabulary, count * length).astype(np.int32)
    trained = np.tile(np.arange(length) >= round(length * prompt_share), count)
    return TokenRows(ids, trained, np.arange(count + 1) * length, np.arange(count))


def batch_of(rows: TokenRows) -> Batch:
    return collate([rows[place] for place in range(len(rows))], pad_id=0)


def prompt_lengths(rows: TokenRows) -> list[int]:
    return [int((~rows[place].trained).sum()) for place in range(len(rows))]


def masked_dataset(rows: TokenRows) -> Any:
    """The rows as TRL's collators take tokenised ones."""
    from datasets import Dataset

    masks = [rows[place].trained.astype(int).tolist() for place in range(len(rows))]
    return Dataset.from_list(
        [{"prompt": "", "input_ids": rows[place].ids.tolist(), "completion_mask": mask} for place, mask in enumerate(masks)]
    )


def common_arguments(folder: str, steps: int, batch: int) -> dict[str, Any]:
    """What both sides' arguments have in common."""
    return {
        "output_dir": folder,
        "max_steps": steps,
        "per_device_train_batch_size": batch,
        "learning_rate": 1e-5,
        "use_cpu": True,
        "report_to": [],
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "dataloader_pin_memory": False,
        "log_level": "error",
    }


def potstill_trainer(student: Callable[[], Any], objective: Objective, rows: TokenRows, batch: int, **tuning: Any) -> MakeTrainer:
    def make(folder: str, steps: int) -> Trainer:
        lesson = Lesson(rows, LengthBatches(rows.lengths, batch, batch, seed=0), objective)
        arguments = TrainingArguments(**common_arguments(folder, steps, batch), **tuning)
        return DistillationTrainer(student(), lesson, Judge(None, lambda: None, True, 1), arguments)

    return make


def by_trainer(make: MakeTrainer) -> Seconds:
    def seconds(steps: int) -> float:
        clock = Clock()
        with tempfile.TemporaryDirectory() as folder:
            trainer = make(folder, steps + 1)
            for callback in (PrinterCallback, ProgressCallback):
                trainer.remove_callback(callback)
            trainer.add_callback(clock)
            trainer.train()
        return sum(clock.seconds[1:])

    return seconds


def by_loop(step: Callable[[], None]) -> Seconds:
    def seconds(steps: int) -> float:
        step()
        forget_peak_memory()
        begun = time.perf_counter()
        for _ in range(steps):
            step()
        return time.perf_counter() - begun

    return seconds


def bare_step(student: Any, batch: Batch, teacher: Any = None, *, bf16: bool = False) -> Callable[[], None]:
    """The limit: no more than nobody can do without. The student's forward and backward pass, the teacher's forward pass, and the products
    with their heads for trained positions, in chunks; no loss (the student's logits stand for their gradient), no optimizer, no trainer.
    With `bf16` products are in bfloat16: by autocast in the models, the teacher's weights and the heads rounded once."""

    keep_freed_memory()
    kind = torch.bfloat16 if bf16 else torch.float32
    teacher_head = None if teacher is None else output_head(teacher).cast(kind)
    if teacher is not None and bf16:
        round_products(teacher, kind)

    def step() -> None:
        with fast_products():
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                teacher_hidden_ND = None
                if teacher is not None:
                    with torch.no_grad():
                        teacher_hidden_ND = trained_hidden(teacher, batch).to(kind)
                hidden_ND = trained_hidden(student, batch)
                with torch.no_grad():
                    weight_VD, states_ND = output_head(student).weight_VD.to(kind), hidden_ND.to(kind)
                    gradient_VD, hidden_gradient_ND = torch.zeros_like(weight_VD), torch.empty_like(hidden_ND)
                    for start in range(0, len(hidden_ND), 340):
                        part = slice(start, start + 340)
                        logits_nV = states_ND[part] @ weight_VD.t()
                        if teacher_hidden_ND is not None and teacher_head is not None:
                            teacher_head.logits(teacher_hidden_ND[part])
                        hidden_gradient_ND[part] = logits_nV @ weight_VD
                        gradient_VD.addmm_(logits_nV.t(), states_ND[part])
            hidden_ND.backward(hidden_gradient_ND)
        student.zero_grad()

    return step


class Worker:
    """A side in a process of its own: what one side sets for its whole process, and the memory it keeps, is no other's matter."""

    def __init__(self, script: str, side: str, arguments: Sequence[str]) -> None:
        command = [sys.executable, script, "--worker", side, *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        # The next one starts when this one is ready: who measures the machine while it gets ready has it for himself.
        self._answer()

    def run(self, steps: int) -> tuple[float, float]:
        """Seconds of so many steps, and peak memory in MB meanwhile."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        seconds, peak = self._answer().split()
        return float(seconds), float(peak)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(_ANSWER):
                return line.removeprefix(_ANSWER)
        raise SystemExit("a side ended before its time; what it said stands above")

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def run_worker(script: str, side: str, arguments: Sequence[str]) -> float:
    """The number that a worker prints last."""
    command = [sys.executable, script, "--worker", side, *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def serve(side: Seconds) -> None:
    """A worker's end: say that it is ready, and run as often as it is asked to."""
    print(f"{_ANSWER}ready", flush=True)
    for line in sys.stdin:
        seconds = side(int(line))
        print(f"{_ANSWER}{seconds} {peak_memory_mb()}", flush=True)


def paired(script: str, names: Sequence[str], arguments: Sequence[str], *, tokens: int, steps: int, rounds: int) -> dict[str, Any]:
    """Every side in each round, one at a time, each in a process of its own.

    Gives tokens/s, how many times slower than the first side each other is (medians of rounds), and peak memory (the highest).
    """
    workers = {name: Worker(script, name, arguments) for name in names}
    speeds: dict[str, list[float]] = {name: [] for name in names}
    peaks: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else names[::-1]:
            seconds, peak = workers[name].run(steps)
            speeds[name].append(tokens * steps / seconds)
            peaks[name].append(peak)
            print(f"round {turn + 1}: {name} {speeds[name][-1]:.1f} tokens/s, {peak:.0f} MB", file=sys.stderr, flush=True)
    for worker in workers.values():
        worker.stop()
    return {name: _figures(speeds[names[0]], speeds[name], peaks[names[0]], peaks[name]) for name in names}


def measure_sides(
    sides: dict[str, Callable[[Any], Seconds]], bench: Callable[[float, int], Any], *, default: Sequence[str], tokens: int, steps: int
) -> None:
    """A benchmark's command line: Potstill and the bare loop against the sides that are named; `bench` takes prompt share and steps."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sides", nargs="*", default=list(default))
    parser.add_argument("--prompt", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--worker", choices=sides, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        serve(sides[chosen.worker](bench(chosen.prompt, chosen.steps)))
        return
    names = list(dict.fromkeys(["potstill", "bare", *chosen.sides]))
    passed_on = ["--prompt", str(chosen.prompt), "--steps", str(chosen.steps)]
    found = paired(sys.argv[0], names, passed_on, tokens=tokens, steps=chosen.steps, rounds=chosen.rounds)
    show({"prompt": chosen.prompt, "sides": found})


def _figures(first: list[float], speeds: list[float], first_peaks: list[float], peaks: list[float]) -> dict[str, Any]:
    ratios = [ours / theirs for ours, theirs in zip(first, speeds, strict=True)]
    return {
        "tokens_per_s": round(statistics.median(speeds), 1),
        "times_slower": f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        "peak_mb": round(max(peaks)),
        "memory_of_first": round(max(first_peaks) / max(peaks), 2),
    }


def forget_peak_memory() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_mb() -> float:
    """The most that this process held since it forgot, weights and libraries included."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024 / 1e6


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads"


def show(result: dict[str, Any]) -> None:
    print(json.dumps({**result, "machine": machine()}, indent=2))

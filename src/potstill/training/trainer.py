"""The one trainer: transformers' loop, with our batches, loss, checkpoints and choice of the best."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerControl, TrainingArguments

from potstill.models.products import fast_products
from potstill.training.batches import Batch, collate
from potstill.training.folders import Checkpoints
from potstill.training.history import best, scored, without_progress
from potstill.training.learner import Learner, pad_id
from potstill.training.machine import keep_freed_memory
from potstill.training.objectives.base import Lesson

_WEIGHTS = "learner.safetensors"


@dataclass(frozen=True)
class Judge:
    """Measures the student on validation questions (`measure`), and keeps its weights (`keep`) where it was never better.

    `patience` is how many evaluations may pass without a better one. Without questions (None) the last weights are kept.
    """

    measure: Callable[[], float] | None
    keep: Callable[[], None]
    higher_is_better: bool
    patience: int


class DistillationTrainer(Trainer):  # type: ignore[misc]
    """transformers.Trainer with Potstill's data order, objective, whole-or-nothing checkpoints and best by task metric."""

    loss_is_scaled_for_ga = True

    def __init__(self, module: Any, lesson: Lesson, judge: Judge, args: TrainingArguments) -> None:
        super().__init__(model=Learner(module, lesson.objective), args=args, train_dataset=lesson.rows)
        # It would print every figure to stdout, which belongs to the command.
        self.remove_callback(PrinterCallback)
        self._lesson, self._judge = lesson, judge
        self._checkpoints = Checkpoints(Path(args.output_dir))
        if args.device.type == "cpu":
            keep_freed_memory()
        self.tokens = self.trained_tokens = 0
        self.saving_seconds = 0.0
        self.rollouts = lesson.rollouts

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches of like length, in the order of seed and epoch."""
        pad = pad_id(self.model)
        loader: DataLoader[Any] = DataLoader(
            self.train_dataset, batch_sampler=self._lesson.batches, collate_fn=lambda rows: collate(rows, pad)
        )
        return self.accelerator.prepare(loader)  # type: ignore[no-any-return]

    def get_batch_samples(self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device) -> tuple[list[Batch], Tensor]:
        """A step's micro-batches, and its trained tokens over all of them and all processes: what the loss is divided by."""
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        if self.rollouts is not None:
            batches = self.rollouts.mix(self.state.global_step, batches, device)
        counts = torch.tensor([[sum(len(batch.labels_N) for batch in batches), sum(batch.tokens for batch in batches)]], device=device)
        trained_tokens, tokens = self.accelerator.gather(counts).sum(dim=0)
        self.trained_tokens += int(trained_tokens)
        self.tokens += int(tokens)
        return batches, trained_tokens

    def training_step(self, model: Any, inputs: Batch, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Forward and backward pass of a micro-batch: on a CPU in parts, whose losses and gradients add up to its own."""
        parts = inputs.split() if self.args.device.type == "cpu" else [inputs]
        step = super().training_step
        # What autocast rounds it keeps until the outermost one ends, off though that is: parts share the rounded weights.
        with fast_products(), torch.autocast(self.args.device.type, enabled=False):
            return torch.stack([step(model, part, num_items_in_batch) for part in parts]).sum()

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """The objective's sum over this micro-batch's trained positions, divided by the trained tokens of the whole step."""
        assert not return_outputs
        assert num_items_in_batch is not None
        with self.accelerator.autocast():
            total = model(inputs)
        # Processes' gradients are averaged after this, but the divisor counts the tokens of all processes.
        result: Tensor = total * self.accelerator.num_processes / num_items_in_batch
        return result

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Ask the judge; keep the weights where none before were better; stop where they have not become better for too long."""
        higher, is_best, waited = self._judge.higher_is_better, True, 0
        if self._judge.measure is not None:
            self.model.eval()
            self.log({"validation": self._judge.measure()})
            evaluations = scored(self.state.log_history)
            is_best = best(evaluations, higher_is_better=higher) is evaluations[-1]
            waited = without_progress(evaluations, higher_is_better=higher)
        if is_best:
            self._judge.keep()
        self.control: TrainerControl = self.callback_handler.on_evaluate(self.args, self.state, self.control, {})
        self.control.should_training_stop |= waited >= self._judge.patience
        return {}

    def floating_point_ops(self, _inputs: Batch) -> int:
        """Not counted: the count costs time in every step, and nobody reads it."""
        return 0

    def _save(self, output_dir: str | None = None, **_: Any) -> None:
        assert output_dir is not None
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        save_file({name: weight.detach() for name, weight in self._trained()}, Path(output_dir, _WEIGHTS))
        if self.rollouts is not None:
            self.rollouts.save(Path(output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, *_: Any) -> None:
        saved = load_file(Path(resume_from_checkpoint, _WEIGHTS))
        with torch.no_grad():
            for name, weight in self._trained():
                weight.copy_(saved[name])
        if self.rollouts is not None:
            self.rollouts.load(Path(resume_from_checkpoint))

    def _trained(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """What changes in training; all else comes with the student."""
        return ((name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad)

    def _get_output_dir(self, *_: Any, **__: Any) -> str:
        return str(self._checkpoints.part)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        begun = time.monotonic()
        with self._checkpoints.saving(self.state.global_step):
            super()._save_checkpoint(model, trial)
        self.saving_seconds = time.monotonic() - begun

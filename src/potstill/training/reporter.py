"""Says when the trainer logs, validates and saves, and tells what happens to the user and to `metrics.jsonl`."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback

from potstill.errors import TrainingError
from potstill.spec.sections import Auto
from potstill.store.events import EventLog, Measured, Progress
from potstill.training.history import FIGURES, MetricsFile
from potstill.training.trainer import DistillationTrainer

_LOGS_A_RUN = 100
_SAVE_SECONDS, _SAVINGS = 120.0, 20
"""Between two checkpoints pass so many seconds, and so many times those that the last one took: they cost 5 % at most."""


@dataclass(frozen=True)
class Schedule:
    """When things happen: how many steps, after which of them the student is validated, minutes between checkpoints."""

    steps: int
    evaluations: tuple[int, ...]
    save_minutes: float | Auto


class Reporter(TrainerCallback):  # type: ignore[misc]
    """A callback of DistillationTrainer.

    Each checkpoint and each evaluation is preceded by a log entry, so that a checkpoint holds all counts, and no
    weights are saved after the loss has ceased to be a number.
    """

    def __init__(
        self, trainer: DistillationTrainer, schedule: Schedule, metrics: MetricsFile, events: EventLog, progress: Progress
    ) -> None:
        self._trainer, self._schedule, self._metrics = trainer, schedule, metrics
        self._events, self._progress = events, progress
        self._log_every = max(1, schedule.steps // _LOGS_A_RUN)
        self._saved = self._begun = time.monotonic()
        self._logged_seconds, self._logged_tokens = 0.0, 0
        self.seconds = 0.0

    def on_train_begin(self, _args: Any, state: Any, *_: Any, **__: Any) -> None:
        """Go on counting where the log stands."""
        self._metrics.restart(state.log_history)
        for entry in state.log_history:
            self.seconds = entry.get("seconds", self.seconds)
            self._trainer.tokens = entry.get("tokens", self._trainer.tokens)
            self._trainer.trained_tokens = entry.get("trained_tokens", self._trainer.trained_tokens)
        self._logged_seconds, self._logged_tokens = self.seconds, self._trainer.tokens
        self._saved = time.monotonic()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock of the step."""
        self._begun = time.monotonic()

    def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> None:
        """Decide what follows the step."""
        now = time.monotonic()
        self.seconds += now - self._begun
        last = state.global_step >= self._schedule.steps
        control.should_evaluate = last or state.global_step in self._schedule.evaluations
        control.should_save = control.should_evaluate or now - self._saved >= self._until_next_save()
        control.should_log = control.should_save or state.global_step % self._log_every == 0
        self._progress.advance()

    def _until_next_save(self) -> float:
        wanted = self._schedule.save_minutes
        return max(_SAVE_SECONDS, _SAVINGS * self._trainer.saving_seconds) if wanted == "auto" else 60 * wanted

    def on_save(self, *_: Any, **__: Any) -> None:
        """The next checkpoint is due so many minutes from now."""
        self._saved = time.monotonic()

    def on_log(self, _args: Any, state: Any, *_: Any, **__: Any) -> None:
        """Write the newest entry down. Raises TrainingError where the loss is not finite."""
        entry = state.log_history[-1]
        if "loss" in entry:
            self._refuse_broken(entry)
            entry |= self._counts()
        self._metrics.append(entry)
        values = {name: float(entry[name]) for name in (*FIGURES, "validation") if name in entry}
        if values:
            self._events.emit(Measured("training", state.global_step, values))
        if "loss" in entry:
            self._progress.advance(0, note=f"loss {entry['loss']:.3f}")

    def _counts(self) -> dict[str, Any]:
        tokens = self._trainer.tokens
        rate = (tokens - self._logged_tokens) / max(self.seconds - self._logged_seconds, 1e-9)
        self._logged_seconds, self._logged_tokens = self.seconds, tokens
        counts: dict[str, Any] = {
            "tokens_per_s": rate,
            "seconds": self.seconds,
            "tokens": tokens,
            "trained_tokens": self._trainer.trained_tokens,
            "precision": "bfloat16" if self._trainer.args.bf16 else "float32",
        }
        if self._trainer.rollouts is not None and self._trainer.rollouts.rollouts:
            counts |= self._trainer.rollouts.figures()
            counts["writing_share"] = counts["writing_seconds"] / max(counts["writing_seconds"] + self.seconds, 1e-9)
        return counts

    @staticmethod
    def _refuse_broken(entry: dict[str, Any]) -> None:
        if not math.isfinite(entry["loss"]) or not math.isfinite(entry.get("grad_norm", 0.0)):
            raise TrainingError(
                f"the loss is {entry['loss']} at step {entry['step']}: training has diverged; lower `training.learning_rate` "
                f"(it stands at {entry['learning_rate']:.1e}), or raise `training.batch_size`"
            )

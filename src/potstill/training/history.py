"""What training's log says: figures by step, the best evaluation, and for how long there was no better one.

The log is part of every checkpoint, so all that is decided from it is decided alike after a kill.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill.store.atomic import read_json, store_error, write_text

Log = Sequence[dict[str, Any]]

FIGURES = ("loss", "learning_rate", "tokens_per_s", "rollouts", "rollout_length", "writing_share")
"""What is told of a step. Where the student writes rows itself: how many so far, the last ones' mean length, and its share of the time."""


@dataclass(frozen=True)
class Scored:
    """The validation metric after a step."""

    step: int
    value: float


def scored(log: Log) -> list[Scored]:
    """The evaluations of a log, in order."""
    return [Scored(int(entry["step"]), float(entry["validation"])) for entry in log if "validation" in entry]


def best(evaluations: Sequence[Scored], *, higher_is_better: bool) -> Scored:
    """The best evaluation; of equal ones the last, which was trained most: validation rows are few, and cannot tell them apart."""
    return max(evaluations, key=lambda evaluation: (_worth(evaluation, higher_is_better), evaluation.step))


def without_progress(evaluations: Sequence[Scored], *, higher_is_better: bool) -> int:
    """How many evaluations have passed since the metric became as good as it ever was.

    0 while no evaluation has scored above zero where more is better: a student that cannot do anything yet has not ceased to learn.
    """
    worths = [_worth(evaluation, higher_is_better) for evaluation in evaluations]
    if higher_is_better and max(worths) <= 0:
        return 0
    return len(worths) - 1 - worths.index(max(worths))


def _worth(evaluation: Scored, higher_is_better: bool) -> float:
    """Larger is better; what is no number is worth least."""
    if math.isnan(evaluation.value):
        return -math.inf
    return evaluation.value if higher_is_better else -evaluation.value


def checkpoint_log(checkpoint: Path) -> tuple[int, list[dict[str, Any]]]:
    """The step at which a checkpoint stands, and its log."""
    state = read_json(checkpoint / "trainer_state.json")
    return int(state["global_step"]), list(state["log_history"])


class MetricsFile:
    """`metrics.jsonl`: one line a log entry. The metric's name stands in the `validation` entries."""

    def __init__(self, path: Path, metric: str) -> None:
        self._path, self._metric = path, metric

    def restart(self, log: Log) -> None:
        """Let the file hold what the log holds, so that steps which a kill undid do not stand twice."""
        write_text(self._path, "".join(map(self._line, log)))

    def append(self, entry: dict[str, Any]) -> None:
        """Add one entry. Raises StoreError where it cannot be written."""
        try:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(self._line(entry))
        except OSError as error:
            raise store_error(self._path, error) from error

    def _line(self, entry: dict[str, Any]) -> str:
        line: dict[str, Any] = {name: entry[name] for name in ("step", "epoch", *FIGURES) if name in entry}
        if "validation" in entry:
            line["validation"] = {self._metric: entry["validation"]}
        return json.dumps(line) + "\n" if len(line) > 2 else ""

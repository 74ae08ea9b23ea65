"""What training's log says: figures by step, the best evaluation, and how long ago it was.

The log is part of every checkpoint, so all that is decided from it is decided alike after a kill.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill.store.atomic import read_json, store_error, write_text

Log = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Scored:
    """The validation metric after a step."""

    step: int
    value: float


def scored(log: Log) -> list[Scored]:
    """The evaluations of a log, in order."""
    return [Scored(int(entry["step"]), float(entry["validation"])) for entry in log if "validation" in entry]


def best(evaluations: Sequence[Scored], *, higher_is_better: bool) -> Scored:
    """The best evaluation; of equal ones the first, which was trained least."""
    choose = max if higher_is_better else min
    return choose(evaluations, key=lambda evaluation: evaluation.value)


def since_best(evaluations: Sequence[Scored], *, higher_is_better: bool) -> int:
    """How many evaluations came after the best one: 0 where the last is the best."""
    return len(evaluations) - 1 - list(evaluations).index(best(evaluations, higher_is_better=higher_is_better))


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
        line: dict[str, Any] = {name: entry[name] for name in ("step", "epoch", "loss", "learning_rate", "tokens_per_s") if name in entry}
        if "validation" in entry:
            line["validation"] = {self._metric: entry["validation"]}
        return json.dumps(line) + "\n" if len(line) > 2 else ""

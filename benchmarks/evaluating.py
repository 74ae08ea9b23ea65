"""Rows a second of evaluating a carved student on a closed label set: Potstill beside lm-eval's transformers backend.

    python -m venv PEERS
    python -c "import pathlib, torch; print(pathlib.Path(torch.__file__).parents[1])" > PEERS/lib/python3.11/site-packages/shared.pth
    PEERS/bin/pip install lm-eval==0.4.13
    PYTHONPATH=src PEERS/bin/python benchmarks/evaluating.py make STUDENT [--prompt listed|short] [--data FOLDER]
    PYTHONPATH=src PEERS/bin/python benchmarks/evaluating.py STUDENT [SIDE...] [--rows 1000] [--rounds 1] [--prompt ...] [--data FOLDER]

`make` carves 6 of 30 layers and the data's vocabulary out of SmolLM2-135M-Instruct and trains them a little, until they answer with labels.
`--data` is a folder with `train.jsonl` and `test.jsonl` of rows with `messages` and a `reference` (banking77, say); without it, rows are
generated: 77 labels, questions of 8 to 30 words. `--prompt listed` is what Potstill asks as it comes, a system prompt that lists all
labels; `short` says in a sentence what to do.

Every side asks the same model the same chats, greedy, at most 32 tokens, and scores exact match; each in a process of its own that
loads the model before the clock starts. Sides: `potstill` (as it comes, ledger and intervals included), `lm_eval` (`generate_until`, its
loading of the rows included, no bootstrap), `lm_eval_64` (batches of 64). Printed: rows a second and a
second of processors, accuracy, and the medians of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from potstill.evaluation.score import evaluate_model
from potstill.models.load import load_local
from potstill.pipeline import run_pipeline
from potstill.records import Example, Message
from potstill.spec import TaskSpec, WeightsSpec, spec_from_dict
from potstill.store.ledger import Ledger
from potstill.tasks import build_task
from potstill.tasks.base import Task
from potstill.tasks.metrics import build_metric
from steps import machine

SHORT = "Say which of the known intents the customer has. Answer with the intent alone."
LIMIT = 32
_THINGS = ("card", "account", "transfer", "payment", "cash", "top-up", "refund", "limit", "fee", "rate", "country", "phone", "code", "app")
_STATES = ("lost", "late", "wrong", "pending", "declined", "unknown", "changed", "missing", "expired", "refused", "doubled", "charged")


Measured = tuple[float, float, float]
"""Seconds, seconds of processors, accuracy."""


class Clock:
    """Seconds of the wall, and of this process's processors, which a busy neighbour does not lengthen."""

    def __init__(self) -> None:
        self._started = time.perf_counter(), time.process_time()

    def passed(self) -> tuple[float, float]:
        return time.perf_counter() - self._started[0], time.process_time() - self._started[1]


def read_rows(folder: Path | None, split: str, count: int) -> list[dict[str, Any]]:
    """Rows with `messages` and one `reference`."""
    if folder is None:
        return generated(split, count)
    with (folder / f"{split}.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return rows[:: max(1, len(rows) // count)][:count]


def generated(split: str, count: int) -> list[dict[str, Any]]:
    """Questions that name the words of their label among others."""
    draw = random.Random(split)
    labels = sorted(f"{state} {thing}" for thing in _THINGS for state in _STATES)[:77]
    rows = []
    for _ in range(count):
        label = draw.choice(labels)
        words = [draw.choice(_THINGS) for _ in range(draw.randrange(6, 28))]
        words.insert(draw.randrange(len(words)), label)
        rows.append({"messages": [{"role": "user", "content": f"Please help: {' '.join(words)}?"}], "reference": label})
    return rows


def task_of(folder: Path | None, prompt: str) -> tuple[Task, list[str], dict[str, Any]]:
    """The task, its labels, and its section of a spec."""
    labels = sorted({row["reference"] for row in read_rows(folder, "train", 1_000_000 if folder else 5_000)})
    section = {"type": "nli", "labels": labels, "max_new_tokens": LIMIT, **({"instruction": SHORT} if prompt == "short" else {})}
    return build_task(TaskSpec.model_validate(section)), labels, section


def examples_of(rows: Sequence[dict[str, Any]]) -> list[Example]:
    return [
        Example(str(place), tuple(Message(**turn) for turn in row["messages"]), reference=(row["reference"],))
        for place, row in enumerate(rows)
    ]


def make(student: Path, folder: Path | None, prompt: str) -> None:
    """Train a student, so that answers are as long as answers are."""
    task, _, section = task_of(folder, prompt)
    rows = read_rows(folder, "train", 300 if prompt == "listed" else 1_500)
    with tempfile.TemporaryDirectory() as place:
        there = Path(place)
        chats = [
            {"messages": [*(turn.to_json() for turn in task.render(row) or ()), {"role": "assistant", "content": row.reference[0]}]}
            for row in examples_of(rows)
        ]
        for name, found in (("train", rows), ("gold", chats), ("test", read_rows(folder, "test", 40))):
            (there / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found), encoding="utf-8")
        spec = {
            "name": "student",
            "task": section,
            "data": {"train": "train.jsonl", "test": "test.jsonl", "validation_fraction": 0.1, "test_duplicates": "allow"},
            "teacher": {"replay": "gold.jsonl"},
            "student": {"model": "smollm2-135m-instruct", "carve": {"layers": 6, "vocabulary": "data"}},
            "training": {"objective": "sft", "epochs": 1, "batch_size": 16, "learning_rate": 1e-3, "evaluations": 1, "validation_rows": 32},
        }
        run = run_pipeline(spec_from_dict(spec, there), there / "run", until="train")
        run.path("training", "best").rename(student)


def by_potstill(student: Path, folder: Path | None, prompt: str, count: int) -> Measured:
    """Potstill's evaluation."""
    task, labels, _ = task_of(folder, prompt)
    rows, model = examples_of(read_rows(folder, "test", count)), load_local(WeightsSpec(model=str(student)))
    with tempfile.TemporaryDirectory() as place, Ledger(Path(place) / "ledger.sqlite") as ledger:
        clock = Clock()
        found = evaluate_model(model, task, rows, [build_metric("accuracy", labels)], ledger=ledger)
        return *clock.passed(), found.scores["accuracy"].value


def by_lm_eval(batch_size: int) -> Callable[[Path, Path | None, str, int], Measured]:
    """lm-eval's, by its exact match."""

    def run(student: Path, folder: Path | None, prompt: str, count: int) -> Measured:
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        task, _, _ = task_of(folder, prompt)
        model = HFLM(pretrained=str(student), device="cpu", dtype="float32", batch_size=batch_size)
        with tempfile.TemporaryDirectory() as place:
            system = write_lm_eval_task(Path(place), task, examples_of(read_rows(folder, "test", count)))
            manager = TaskManager(include_path=place, include_defaults=False)
            clock = Clock()
            found = lm_eval.simple_evaluate(
                model,
                tasks=["labels"],
                task_manager=manager,
                apply_chat_template=True,
                system_instruction=system,
                bootstrap_iters=0,
                log_samples=False,
            )
            return *clock.passed(), found["results"]["labels"]["exact_match,none"]

    return run


def write_lm_eval_task(place: Path, task: Task, rows: Sequence[Example]) -> str:
    """The rows and the task as lm-eval reads them; returns the system prompt."""
    asked = [task.render(row) or () for row in rows]
    lines = [{"question": turns[-1].content, "label": row.reference[0]} for turns, row in zip(asked, rows, strict=True)]
    (place / "rows.json").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    config = {
        "task": "labels",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(place / "rows.json")}, "cache_dir": str(place / "cache")},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{question}}",
        "doc_to_target": "{{label}}",
        "generation_kwargs": {"until": ["<|im_end|>"], "max_gen_toks": LIMIT, "do_sample": False},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True, "ignore_case": True}],
    }
    (place / "labels.yaml").write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    return asked[0][0].content


SIDES = {"potstill": by_potstill, "lm_eval": by_lm_eval(32), "lm_eval_64": by_lm_eval(64)}


def measured(side: str, arguments: Sequence[str]) -> Measured:
    """A side in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *arguments, "--worker", side], check=True, capture_output=True, text=True)
    seconds, processors, accuracy = map(float, done.stdout.splitlines()[-1].split())
    return seconds, processors, accuracy


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("words", nargs="+", help="STUDENT [SIDE...], or make STUDENT")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--prompt", choices=("listed", "short"), default="listed")
    parser.add_argument("--rows", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.words[0] == "make":
        make(Path(chosen.words[1]), chosen.data, chosen.prompt)
        return
    student, sides = Path(chosen.words[0]), chosen.words[1:] or ["lm_eval"]
    if chosen.worker:
        print(*SIDES[chosen.worker](student, chosen.data, chosen.prompt, chosen.rows))
        return
    data = ["--data", str(chosen.data)] if chosen.data else []
    passed_on = [str(student), "--prompt", chosen.prompt, "--rows", str(chosen.rows), *data]
    names = list(dict.fromkeys(["potstill", *sides]))
    found: dict[str, list[Measured]] = {name: [] for name in names}
    for turn in range(chosen.rounds):
        for name in names if turn % 2 == 0 else names[::-1]:
            seconds, processors, accuracy = measured(name, passed_on)
            found[name].append((seconds, processors, accuracy))
            print(f"round {turn + 1}: {name} {seconds:.1f} s, {processors:.1f} s of processors", file=sys.stderr, flush=True)
    ours = found["potstill"]
    report = {
        name: {
            "rows_per_s": round(chosen.rows / statistics.median(seconds for seconds, _, _ in times), 1),
            "rows_per_cpu_s": round(chosen.rows / statistics.median(processors for _, processors, _ in times), 1),
            "accuracy": round(times[0][2], 4),
            "times_slower": round(statistics.median(one[0] / own[0] for own, one in zip(ours, times, strict=True)), 2),
            "times_cpu": round(statistics.median(one[1] / own[1] for own, one in zip(ours, times, strict=True)), 2),
        }
        for name, times in found.items()
    }
    print(json.dumps({"rows": chosen.rows, "prompt": chosen.prompt, "sides": report, "machine": machine()}, indent=2))


if __name__ == "__main__":
    main()

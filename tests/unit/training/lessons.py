"""A small lesson for tests: rows that a tiny model can learn, and questions on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from potstill.models.weights import load_weights
from potstill.records import Example, Message, Sampling
from potstill.spec.sections import FeaturesSpec, OnPolicySpec, TrainingSpec, WeightsSpec
from potstill.store.events import EventLog
from potstill.tasks.metrics import build_metric
from potstill.training.features import FeatureMatching, matched_layers
from potstill.training.fine_tune import FineTuning, Rollouts
from potstill.training.objectives import OBJECTIVES, Ingredients, Objective
from potstill.training.objectives.base import always
from potstill.training.targets.live_teacher import LiveTeacher
from potstill.training.validation import Question, Validation
from tiny import tiny_llama

ANSWERS = ("positive", "negative", "card lost", "Paris")


def rows(count: int = 24) -> list[Example]:
    made = []
    for number in range(count):
        question, answer = f"number {number % 10}" + " of the text" * (number % 5), ANSWERS[number % 4]
        messages = (Message("system", "Answer."), Message("user", question), Message("assistant", answer))
        made.append(Example(f"row-{number}", messages, trained_turns=(2,)))
    return made


def validation(count: int = 6) -> Validation:
    questions = tuple(Question(row.messages[:-1], (row.messages[-1].content,)) for row in rows(count))
    return Validation(questions, str.strip, build_metric("rouge_l"), Sampling(max_new_tokens=5))


def job(student: Path, folder: Path, **changes: Any) -> FineTuning:
    training = {"learning_rate": 3e-3, "batch_size": 8, "epochs": 4.0, "evaluations": 4, "patience": 4} | changes.pop("training", {})
    settings: dict[str, Any] = {
        "student": WeightsSpec(model=str(student), device="cpu"),
        "rows": rows(),
        "folder": folder,
        "teaching": always(OBJECTIVES["sft"](Ingredients())),
        "validation": validation(),
        "training": TrainingSpec(**training),
        "seed": 3,
        "events": EventLog(folder / "events.jsonl"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return FineTuning(**settings | changes)


def logits_job(student: Path, folder: Path, **changes: Any) -> FineTuning:
    """The lesson learnt from the probabilities of a teacher that is like the student, but not the same."""
    return job(student, folder, **{"teaching": always(OBJECTIVES["logits"](ingredients(student))), "positions": "all"} | changes)


def on_policy_job(student: Path, folder: Path, on_policy: dict[str, Any] | None = None, **changes: Any) -> FineTuning:
    """The same, of rows of which the student writes some itself: by default every second step, half of them."""
    settings = OnPolicySpec(**{"share": 0.5, "refresh": 2, "reuse": 2.0, "buffer": 12, "staleness": 4} | (on_policy or {}))
    teaching = always(OBJECTIVES["on_policy"](ingredients(student)))
    return job(student, folder, **{"teaching": teaching, "rollouts": Rollouts(settings, 6)} | changes)


def ingredients(student: Path) -> Ingredients:
    """A teacher that is like the student, but not the same."""
    teacher = load_weights(WeightsSpec(model=str(student), device="cpu")).module
    for layer in teacher.model.layers:
        layer.mlp.down_proj.weight.data.mul_(0.5)
    return Ingredients(LiveTeacher(teacher, teacher.config.vocab_size))


def features_job(student: Path, folder: Path, features: FeaturesSpec | None = None, **changes: Any) -> FineTuning:
    """The lesson learnt from what goes on inside a teacher that is wider than the student and has more layers."""
    spec = features or FeaturesSpec(added_to="sft", relations=("query", "key", "value"), positions="all")
    wide = folder.parent / "wide-teacher"
    teacher = load_weights(WeightsSpec(model=str(wide if wide.exists() else tiny_llama(wide, 6, 48, seed=5)), device="cpu")).module
    live = LiveTeacher(teacher, teacher.config.vocab_size)

    def teaching(_rows: Any, module: Any) -> Objective:
        matching = FeatureMatching(module, live, spec, matched_layers(spec, 4, 6, None), seed=3)
        return OBJECTIVES["features"](Ingredients(live if spec.added_to == "logits" else None, features=matching))

    return job(student, folder, teaching=teaching, **changes)

"""Folders of evaluated runs, as the stages leave them, without a model: the answers are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from potstill.evaluation.predict import Question, Reply, prediction_to_json
from potstill.evaluation.resampling import Bootstrap
from potstill.evaluation.score import sample_agreement, sample_references
from potstill.evaluation.slices import find_traits
from potstill.evaluation.summary import Answers, summarise
from potstill.pipeline.run import inputs_of
from potstill.records import Completion, Message
from potstill.spec import spec_from_dict
from potstill.store.atomic import write_json, write_jsonl
from potstill.store.events import StageFinished
from potstill.store.run import Run, open_run
from potstill.tasks.metrics import build_metric

LABELS = ("cold", "warm")
TIMING = {
    "where": "in a process of its own",
    "over_the_wire": False,
    "p50_s": 0.5,
    "p95_s": 0.9,
    "first_token_s": {"p50": 0.1, "p95": 0.2},
    "tokens_per_s": 20.0,
    "n": 4,
    "peak_above_empty_bytes": 3_000_000,
    "throughput": [{"concurrency": 1, "requests_per_s": 2.0, "tokens_per_s": 8.0, "p50_s": 0.5, "p95_s": 0.9, "n": 4}],
}
SIZE = {"parameters": 1_000_000, "weights_bytes": 4_000_000, "disk_bytes": 4_100_000, "storage": "float32", "shipped_bytes": None}


def questions(count: int, word: str = "row") -> list[Question]:
    """Questions whose right answers alternate."""
    return [Question(f"{word}-{i}", None, (Message("user", f"{word} {i}?"),), (LABELS[i % 2],)) for i in range(count)]


def answers(asked: Sequence[Question], wrong: Sequence[int]) -> list[str]:
    """The right answers, but for these places."""
    return [LABELS[(i + (i in wrong)) % 2] for i in range(len(asked))]


def evaluated(
    folder: Path,
    asked: Sequence[Question],
    given: Mapping[str, Sequence[str | None]],
    seed: int = 0,
    resamples: int = 400,
    *,
    shares: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
    **sections: Any,
) -> Path:
    """A run in `folder` whose systems gave these answers (None: cannot be parsed; "error": the call failed).

    `shares` are what a system says of each label's probability, the same for every question.
    """
    run = _open(folder, list(given), seed, resamples, sections)
    for name, content in _parts(run).items():
        write_json(run.path(name), content)
    replies = {system: [_reply(text, shares.get(system, {})) for text in texts] for system, texts in given.items()}
    evaluation = run.path("evaluation")
    write_jsonl(evaluation / "questions.jsonl", (question.to_json() for question in asked))
    for system, found in replies.items():
        rows = (prediction_to_json(question, reply) for question, reply in zip(asked, found, strict=True))
        write_jsonl(evaluation / "predictions" / f"{system}.jsonl", rows)
    write_json(evaluation / "scores.json", _scores(asked, replies, seed, resamples))
    for stage in ("data", "generate", "train", "evaluate"):
        record, inputs = run.stage(stage), inputs_of(run, stage)
        record.begin(inputs)
        record.finish(inputs, [evaluation / "scores.json"] if stage == "evaluate" else [])
        run.events.emit(StageFinished(stage, 60.0, "done"))
    return folder


def _open(folder: Path, systems: Sequence[str], seed: int, resamples: int, sections: Mapping[str, Any]) -> Run:
    folder.mkdir(parents=True)
    for split in ("train", "validation", "test"):
        (folder / f"{split}.jsonl").write_text(f'{{"prompt": "{split}", "completion": "cold"}}\n')
    given = {
        "name": folder.name,
        "task": {"type": "nli", "labels": list(LABELS)},
        "data": {split: f"{split}.jsonl" for split in ("train", "validation", "test")},
        "teacher": {"model": "m", "base_url": "http://127.0.0.1:9/v1"},
        "student": {"model": "some/student"},
        "evaluation": {"systems": list(systems), "resamples": resamples},
        "seed": seed,
    }
    return open_run(spec_from_dict({**given, **sections}, folder), folder)


def _parts(run: Run) -> dict[str, Any]:
    """What the report tells of the other stages."""
    return {
        "data/labels.json": list(run.spec.task.labels or ()),
        "data/manifest.json": {"rows": {}, "sources": {"train": {"path": "/x/train.jsonl", "sha256": "0"}}},
        "generation/usage.json": {
            "rows": {"train": {"asked": 90, "accepted": 80}},
            "dropped": {},
            "calls": 90,
            "input_tokens": 1,
            "output_tokens": 1,
            "dollars": 1.25,
        },
        "training/summary.json": {"steps": 10, "seconds": 60.0},
    }


def _reply(text: str | None, shares: Mapping[str, float]) -> Reply:
    if text == "error":
        return Reply(Completion("", "error"), None, failed=True)
    return Reply(Completion(text or "?", "stop"), text, probabilities=tuple(shares.items()))


def _scores(asked: Sequence[Question], replies: Mapping[str, Sequence[Reply]], seed: int, resamples: int) -> dict[str, Any]:
    metrics = [build_metric("accuracy", LABELS), build_metric("macro_f1", LABELS)]
    agreed = sample_agreement(metrics[0], asked, replies) if "teacher" in replies else None
    answers = Answers(asked, find_traits(asked, LABELS), replies, sample_references(metrics, asked, replies), agreed, LABELS)
    return {
        "schema_version": 3,
        "task": "nli",
        "rows": len(asked),
        **summarise(answers, Bootstrap(resamples, 0.95, seed)),
        "sizes": dict.fromkeys(replies, SIZE),
        "timings": dict.fromkeys(replies, TIMING),
    }

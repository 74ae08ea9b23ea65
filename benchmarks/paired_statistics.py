"""All statistics of an evaluation: seconds, and the peak of memory, of many rows and several systems that answered them.

`labels`: a closed set, each row right or wrong (accuracy and macro-F1, a matrix, McNemar's tests, slices by label, tag and length).
`text`: every row has a score of its own (a mean, as ROUGE is; permutation tests, slices by tag and length). `--grouped` puts three rows in
a group; `--probabilities` has every system state its confidence. Reading the answers and scoring them row by row comes before the clock.

    python benchmarks/paired_statistics.py labels --rows 100000 --systems 5
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from potstill.evaluation.predict import Question, Reply
from potstill.evaluation.resampling import Bootstrap
from potstill.evaluation.score import sample_agreement, sample_references
from potstill.evaluation.slices import find_traits
from potstill.evaluation.summary import Answers, summarise
from potstill.records import Completion, Message
from potstill.tasks.metrics import Mean, build_metric

NAMES = ("teacher", "baseline", "student", "sft")
TAGS = ("web", "phone", "letter", "shop")
RIGHT = {"teacher": 0.93, "baseline": 0.55, "student": 0.87, "sft": 0.85}


def questions_of(count: int, labels: list[str], grouped: bool, generator: np.random.Generator) -> list[Question]:
    """Prompts of different lengths, a tag each."""
    lengths, tags = generator.integers(20, 400, count), generator.integers(0, len(TAGS), count)
    wanted = generator.integers(0, len(labels), count)
    return [
        Question(str(row), f"g{row // 3}" if grouped else None, (Message("user", "x" * length),), (labels[label],), (TAGS[tag],))
        for row, (length, tag, label) in enumerate(zip(lengths, tags, wanted, strict=True))
    ]


def label_answers(
    questions: list[Question], labels: list[str], right: float, hard: np.ndarray, generator: np.random.Generator
) -> list[str | None]:
    """Right answers, more where rows are easy; wrong ones go to three neighbours of the label; one in fifty of those cannot be read."""
    places = {label: place for place, label in enumerate(labels)}
    knows = _knows(right, hard, generator)
    step, lost = generator.integers(1, 4, len(questions)), generator.random(len(questions)) < 0.02
    return [
        question.references[0] if known else None if gone else labels[(places[question.references[0]] + by) % len(labels)]
        for question, known, by, gone in zip(questions, knows, step, lost, strict=True)
    ]


def _knows(right: float, hard: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    mixed = 0.7 * hard + 0.3 * generator.random(len(hard))
    return mixed <= np.quantile(mixed, right)


def closeness() -> Mean:
    """A score that each answer carries with it."""
    return Mean("closeness", "Closeness", lambda answer, _: float(answer))


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["labels", "text"])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--systems", type=int, default=5)
    parser.add_argument("--labels", type=int, default=77)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--grouped", action="store_true")
    parser.add_argument("--probabilities", action="store_true")
    wanted = parser.parse_args()
    generator = np.random.default_rng(0)
    labels = [f"label {place}" for place in range(wanted.labels)]
    questions = questions_of(wanted.rows, labels, wanted.grouped, generator)
    hard, replies = generator.random(wanted.rows), {}
    for system in (*NAMES, *(f"extra {place}" for place in range(wanted.systems - len(NAMES))))[: wanted.systems]:
        right = RIGHT.get(system, 0.8)
        if wanted.kind == "labels":
            answers = label_answers(questions, labels, right, hard, generator)
        else:
            answers = [repr(float(score)) for score in np.clip(right - 0.5 * hard + generator.normal(0, 0.1, wanted.rows), 0, 1)]
        sure = generator.beta(8, 2, wanted.rows) if wanted.probabilities else ()
        replies[system] = [Reply(Completion(answer or "", "stop"), answer) for answer in answers]
        if wanted.probabilities:
            replies[system] = [
                Reply(reply.completion, reply.answer, probabilities=((reply.answer or labels[0], float(share)),))
                for reply, share in zip(replies[system], sure, strict=True)
            ]
    closed = labels if wanted.kind == "labels" else []
    metrics = [build_metric("accuracy"), build_metric("macro_f1", labels)] if closed else [closeness()]
    agreement = metrics[0] if closed else build_metric("exact_match")
    gold, agreed = sample_references(metrics, questions, replies), sample_agreement(agreement, questions, replies)
    answers = Answers(questions, find_traits(questions, closed), replies, gold, agreed, closed)
    before = _peak_gb()
    start, busy = time.perf_counter(), time.process_time()
    found = summarise(answers, Bootstrap(wanted.resamples))
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    kept = found["comparisons"][found["primary"]]["student"]["retention"]
    print(
        f"{wanted.kind}, {wanted.rows:,} rows{' in groups of 3' if wanted.grouped else ''}, {len(replies)} systems,"
        f" {len(found['slices'])} slices, {len(found['calibration'])} calibrated: {seconds:.1f} s, processor {busy:.1f} s,"
        f" peak {_peak_gb():.2f} GB (answers and row scores alone {before:.2f} GB); retention {kept['value']:.4f}"
        f" [{kept['interval']['low']:.4f}, {kept['interval']['high']:.4f}]"
    )


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()

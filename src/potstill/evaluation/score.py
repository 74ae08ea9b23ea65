"""From replies to figures: which questions count, against what, and the scores as `scores.json` holds them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from potstill.errors import DataError
from potstill.evaluation.compare import TEACHER, Comparison, compare_systems, estimate_to_json, score_to_json
from potstill.evaluation.intervals import Bootstrap
from potstill.evaluation.predict import Question, Reply, ask_questions, build_questions
from potstill.models.base import Model
from potstill.records import Example, Score
from potstill.store.ledger import Ledger
from potstill.tasks.base import Task
from potstill.tasks.metrics.base import Metric

Replies = Mapping[str, Sequence[Reply]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One model's scores by metric, and what became of its answers.

    Unparsable answers are wrong, and counted, those to questions that the model has no room for (`no_room`) among them; failed calls
    are not scored; truncated answers ran into the token limit.
    """

    scores: dict[str, Score]
    questions: int
    unparsable: int
    no_room: int
    failed: int
    truncated: int


def evaluate_model(
    model: Model, task: Task, rows: Sequence[Example], metrics: Sequence[Metric], *, ledger: Ledger, settings: Bootstrap | None = None
) -> Evaluation:
    """Ask a model the questions of `rows`, greedy, and score its answers against their references, with intervals.

    Answers that stand in `ledger` are not asked again. Must not be called from a running event loop.
    Raises DataError where there are no rows, or no references.
    """
    questions = build_questions(task, rows)
    require_references(questions, metrics)
    replies = asyncio.run(ask_questions(model, task, questions, ledger))
    compared = compare_to_references(metrics, questions, {model.name: replies}, settings or Bootstrap())
    return Evaluation(compared.scores[model.name], len(questions), **count_replies(replies))


def require_references(questions: Sequence[Question], metrics: Sequence[Metric]) -> None:
    """Raises DataError where metrics need references and no question has one."""
    if metrics and not any(question.references for question in questions):
        names = ", ".join(metric.name for metric in metrics)
        raise DataError(
            f"metrics {names} compare with a `reference`, but none of the {len(questions)} test questions has one;"
            " add references to the test rows, or remove `evaluation.metrics` to score agreement with the teacher alone"
        )


def compare_to_references(metrics: Sequence[Metric], questions: Sequence[Question], replies: Replies, settings: Bootstrap) -> Comparison:
    """Compare systems against gold, on the questions that have a reference and that no system failed on."""
    kept = [index for index, question in enumerate(questions) if question.references and _answered(replies, index)]
    predictions = {
        system: [answers[index].prediction(questions[index].references) for index in kept] for system, answers in replies.items()
    }
    return compare_systems(metrics, predictions, [questions[index].group for index in kept], settings)


def compare_to_teacher(metric: Metric, questions: Sequence[Question], replies: Replies, settings: Bootstrap) -> Comparison | None:
    """Agreement with the teacher of each other system: its answers scored with the teacher's as references.

    Questions to which the teacher gave no answer that can be parsed are left out; n says how many are left. None where none is
    left, or where there is no other system.
    """
    teacher = replies[TEACHER]
    kept = [index for index in range(len(questions)) if teacher[index].answer is not None and _answered(replies, index)]
    predictions = {
        system: [answers[index].prediction((str(teacher[index].answer),)) for index in kept]
        for system, answers in replies.items()
        if system != TEACHER
    }
    if not kept or not predictions:
        return None
    return compare_systems([metric], predictions, [questions[index].group for index in kept], settings)


def count_replies(replies: Sequence[Reply]) -> dict[str, int]:
    """How many replies were `unparsable` (`no_room` of them for want of room), `failed`, `truncated`."""
    return {
        "unparsable": sum(reply.answer is None and not reply.failed for reply in replies),
        "no_room": sum(reply.no_room for reply in replies),
        "failed": sum(reply.failed for reply in replies),
        "truncated": sum(reply.completion.finish_reason == "length" for reply in replies),
    }


def comparison_to_json(compared: Comparison) -> dict[str, Any]:
    """Estimates by metric, system and name, as `scores.json` holds them."""
    return {
        metric: {system: {name: estimate_to_json(e) for name, e in found.items()} for system, found in systems.items()}
        for metric, systems in compared.estimates.items()
    }


def scores_to_json(scores: Mapping[str, Score]) -> dict[str, Any]:
    """Scores by name, as `scores.json` holds them."""
    return {name: score_to_json(score) for name, score in scores.items()}


def _answered(replies: Replies, index: int) -> bool:
    return not any(answers[index].failed for answers in replies.values())

"""From replies to figures: which questions count, against what, and the scores as `scores.json` holds them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from potstill.errors import DataError
from potstill.evaluation.compare import TEACHER, Comparison, Scored, compare_scored, score_systems
from potstill.evaluation.intervals import cluster_rows
from potstill.evaluation.predict import Question, Reply, ask_questions, build_questions
from potstill.evaluation.resampling import Bootstrap
from potstill.evaluation.sums import IntArray
from potstill.models.base import Model
from potstill.records import Example, Score
from potstill.store.ledger import Ledger
from potstill.tasks.base import Task
from potstill.tasks.metrics.base import Metric, Prediction
from potstill.verdicts import AGREEMENT

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


@dataclass(frozen=True, slots=True)
class Sample:
    """The questions that count in a comparison: `kept` (n,) of all, what each system predicted, how that scores, and what goes together."""

    kept: list[int]
    predictions: dict[str, list[Prediction]]
    scored: list[Scored]
    clusters: IntArray

    def row_scores(self, system: str, questions: int) -> Iterator[dict[str, float]]:
        """A system's scores of each of all questions by metric, without metrics of a whole corpus; nothing for those that do not count."""
        columns = {one.name: rows for one in self.scored if (rows := one.row_scores(system)) is not None}
        places = {index: place for place, index in enumerate(self.kept)}
        for index in range(questions):
            place = places.get(index)
            yield {} if place is None else {name: float(rows[place]) for name, rows in columns.items()}


def sample_references(metrics: Sequence[Metric], questions: Sequence[Question], replies: Replies) -> Sample:
    """Systems against gold, on the questions that have a reference and that no system failed on. Raises DataError where there is none."""
    kept = [index for index, question in enumerate(questions) if question.references and _answered(replies, index)]
    predictions = {
        system: [answers[index].prediction(questions[index].references) for index in kept] for system, answers in replies.items()
    }
    return Sample(kept, predictions, score_systems(metrics, predictions), cluster_rows([questions[index].group for index in kept]))


def sample_agreement(metric: Metric, questions: Sequence[Question], replies: Replies) -> Sample | None:
    """Each other system against the teacher, whose answers stand as references.

    Questions to which the teacher gave no answer that can be parsed are left out. None where no question is left, or no other system.
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
    [scored] = score_systems([metric], predictions)
    return Sample(kept, predictions, [replace(scored, name=AGREEMENT)], cluster_rows([questions[index].group for index in kept]))


def compare_to_references(metrics: Sequence[Metric], questions: Sequence[Question], replies: Replies, settings: Bootstrap) -> Comparison:
    """Compare systems against gold. Raises DataError where no question has a reference and every system's answer."""
    sample = sample_references(metrics, questions, replies)
    return compare_scored(sample.scored, sample.clusters, settings)


def count_replies(replies: Sequence[Reply]) -> dict[str, int]:
    """How many replies were `unparsable` (`no_room` of them for want of room), `failed`, `truncated`."""
    return {
        "unparsable": sum(reply.answer is None and not reply.failed for reply in replies),
        "no_room": sum(reply.no_room for reply in replies),
        "failed": sum(reply.failed for reply in replies),
        "truncated": sum(reply.completion.finish_reason == "length" for reply in replies),
    }


def _answered(replies: Replies, index: int) -> bool:
    return not any(answers[index].failed for answers in replies.values())

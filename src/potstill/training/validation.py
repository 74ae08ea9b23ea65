"""How good the student is at its task right now: greedy answers to validation questions, scored by the task's own metric."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from potstill.records import Example, Message, Request, Sampling
from potstill.tasks.base import Task
from potstill.tasks.metrics.base import FloatArray, Metric, Prediction

if TYPE_CHECKING:
    from potstill.models.transformers_local import TransformersModel


@dataclass(frozen=True)
class Question:
    """What is asked, and what is acceptable; questions of one `unit` (a row, or a group of rows) say little more than one of them."""

    messages: tuple[Message, ...]
    references: tuple[str, ...]
    unit: str | None = None


@dataclass(frozen=True)
class Validation:
    """Questions, and how answers to them are read and scored."""

    questions: tuple[Question, ...]
    parse: Callable[[str], str | None]
    metric: Metric
    sampling: Sampling

    def measure(self, model: TransformersModel) -> float:
        """The metric of a model over all questions."""
        return float(self.metric.value(self.statistics(model).sum(axis=0)))

    def statistics(self, model: TransformersModel) -> FloatArray:
        """The metric's statistics (n, s) of a model's answers to the n questions, asked in batches of like length.

        Draws no random numbers: training goes on as if it had not been asked.
        """
        import torch

        with torch.random.fork_rng():
            texts = asyncio.run(self._ask(model))
        predictions = [
            Prediction(None if text is None else self.parse(text), question.references)
            for text, question in zip(texts, self.questions, strict=True)
        ]
        return self.metric.statistics(predictions)

    async def _ask(self, model: TransformersModel) -> list[str | None]:
        requests = [Request(question.messages, self.sampling) for question in self.questions]
        order = sorted(range(len(requests)), key=lambda place: model.length(requests[place]))
        texts: list[str | None] = [None] * len(requests)
        for start in range(0, len(order), model.batch_size):
            places = order[start : start + model.batch_size]
            for place, completion in zip(places, await model.complete([requests[place] for place in places]), strict=True):
                # A prompt without room for an answer is not answered, which is wrong.
                texts[place] = None if completion.finish_reason == "error" else completion.text
        return texts


def pick_questions(task: Task, gold: Sequence[Example], answered: Sequence[Example], *, limit: int, seed: int) -> tuple[Question, ...]:
    """At most `limit` rows' questions, with the gold reference, or, where there is none, the teacher's answer.

    `gold` are validation rows as the user gave them; `answered` the same rows with the teacher's turns in `messages`. Rows
    without either are passed over. The rows are drawn with `seed`, and keep their order.
    """
    answers = {example.id: place for place, example in enumerate(answered)}
    usable = [place for place, example in enumerate(gold) if example.reference or example.id in answers]
    if not usable:
        return ()
    drawn = np.random.default_rng(seed).choice(usable, size=min(limit, len(usable)), replace=False)
    found: list[Question] = []
    for example in (gold[int(place)] for place in sorted(drawn)):
        found.extend(_questions(task, example, answered[answers[example.id]] if example.id in answers else None))
    return tuple(found)


def _questions(task: Task, example: Example, answered: Example | None) -> list[Question]:
    found = []
    answers = [answered.messages[turn].content for turn in answered.trained_turns] if answered is not None else []
    for turn, asked in enumerate(task.expand(example)):
        messages = task.render(asked)
        teacher = (task.parse(answers[turn]),) if turn < len(answers) else (None,)
        references = asked.reference or tuple(answer for answer in teacher if answer is not None)
        if messages is not None and references:
            found.append(Question(messages, references, example.group or example.id))
    return found

"""What a system answers to the test questions: the same prompts and the same limits for each, greedy, kept in a ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from potstill.errors import DataError, ModelError
from potstill.evaluation.probabilities import MOST_TOKENS, LabelWays
from potstill.models.ask import ask_async
from potstill.models.base import Model
from potstill.models.budget import Budget
from potstill.records import Completion, Example, Message, Request, Sampling, Usage
from potstill.store.events import Progress
from potstill.store.ledger import Ledger
from potstill.tasks.base import Task
from potstill.tasks.metrics.base import Prediction


@dataclass(frozen=True, slots=True)
class Question:
    """One question that is scored: a row, or one turn of a conversation. Questions of one `group` are resampled together."""

    id: str
    group: str | None
    messages: tuple[Message, ...]
    references: tuple[str, ...]
    tags: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The question as `evaluation/questions.jsonl` holds it, its slices aside."""
        messages = [message.to_json() for message in self.messages]
        return {"id": self.id, "group": self.group, "messages": messages, "references": list(self.references)}


@dataclass(frozen=True, slots=True)
class Reply:
    """A system's reply to a question: the raw completion, and the answer in it (None: unparsable, which is wrong).

    `failed`: no answer arrived; such a question is not scored, which is not the same as wrong. `no_room`: the question does not fit
    the model's context; what a model cannot take it cannot answer, and that is wrong. `probabilities` are those of a closed label set, by
    label, where the model told them. `requests` are what was asked to get it, in order, and `usages` what each of
    several calls has read and written (empty: the completion's own call was the only one).
    """

    completion: Completion
    answer: str | None
    failed: bool = False
    no_room: bool = False
    probabilities: tuple[tuple[str, float], ...] = ()
    requests: tuple[Request, ...] = field(default=(), repr=False, compare=False)
    usages: tuple[Usage, ...] = field(default=(), repr=False, compare=False)

    @property
    def usage(self) -> Usage | None:
        """Tokens of all that was asked to get it; None where those of a call are not known."""
        usages = self.usages or (self.completion.usage,)
        return sum(usages, Usage()) if all(usage.input_tokens for usage in usages) else None

    def prediction(self, references: tuple[str, ...]) -> Prediction:
        """The reply as metrics take it."""
        return Prediction(self.answer, references)


def build_questions(task: Task, rows: Sequence[Example]) -> list[Question]:
    """The questions of `rows`, in order. Those of one row (the turns of a conversation) are of one group.

    Raises DataError where there are none.
    """
    questions = []
    for row in rows:
        parts = task.expand(row)
        group = row.group or (row.id if len(parts) > 1 else None)
        for part in parts:
            messages = task.render(part)
            assert messages is not None, "the first question of a row is always there"
            questions.append(Question(part.id, group, messages, part.reference, part.tags))
    if not questions:
        raise DataError("no rows to evaluate: the test split holds no question; add test rows, or raise `data.test_fraction`")
    return questions


def greedy_requests(task: Task, questions: Sequence[Question], *, top_logprobs: int = 0) -> list[Request]:
    """What systems are asked: the question alone, greedy, up to the same length, by the same schema where the task has one."""
    sampling = Sampling(max_new_tokens=task.max_new_tokens)
    return [Request(question.messages, sampling, schema=task.schema, top_logprobs=top_logprobs) for question in questions]


async def ask_questions(
    model: Model,
    task: Task,
    questions: Sequence[Question],
    ledger: Ledger,
    *,
    progress: Progress | None = None,
    budget: Budget | None = None,
    labels: Sequence[str] = (),
) -> list[Reply]:
    """Replies in the order of the questions; what the ledger holds already is not asked again.

    Where `labels` are given, a local model's replies hold how probable it found each of them.
    Raises EndpointError where the endpoint broke the contract, ModelError where every call failed, BudgetError where a cap is reached.
    """
    local = model.capabilities.logits
    asked = labels if local else ()
    requests = greedy_requests(task, questions, top_logprobs=min(len(asked) + 1, MOST_TOKENS) if asked else 0)
    answers = await ask_async(model, requests, ledger, progress, budget)
    ways = LabelWays(asked) if asked else None
    replies = [_read(task, request, answers.of(request), ways, local=local) for request in requests]
    require_some(model, replies)
    return replies


def require_some(model: Model, replies: Sequence[Reply]) -> None:
    """Raises ModelError where every call failed."""
    if all(reply.failed or reply.no_room for reply in replies):
        raise ModelError(f"{model.name}: all {len(replies)} calls failed; the first: {replies[0].completion.error}")


def prediction_to_json(question: Question, reply: Reply) -> dict[str, Any]:
    """A line of `evaluation/predictions/<system>.jsonl`."""
    return {
        "id": question.id,
        "group": question.group,
        "text": reply.completion.text,
        "answer": reply.answer,
        "references": list(question.references),
        "finish_reason": "no_room" if reply.no_room else reply.completion.finish_reason,
        **({"probabilities": dict(reply.probabilities)} if reply.probabilities else {}),
    }


def _read(task: Task, request: Request, completion: Completion, ways: LabelWays | None, *, local: bool) -> Reply:
    if completion.finish_reason == "error":
        # A model in this process has no other reason to decline a question of its own.
        return Reply(completion, None, failed=not local, no_room=local, requests=(request,))
    found = ways.probabilities(completion.logprobs) if ways is not None and completion.logprobs else None
    # On the clock nobody asks for probabilities.
    probabilities = tuple(found.items()) if found is not None else ()
    return Reply(completion, task.parse(completion.text), probabilities=probabilities, requests=(replace(request, top_logprobs=0),))

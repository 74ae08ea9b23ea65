"""The teacher asked as it taught: the same questions, within its own prompting, read as its training answers were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from potstill.data.splits import open_split
from potstill.evaluation.predict import Question, Reply, require_some
from potstill.models.ask import ask_async
from potstill.models.base import Model
from potstill.models.budget import Budget
from potstill.models.questions import request_key
from potstill.models.talk import Answered, Seat, Talk, together
from potstill.models.talk import Reply as Said
from potstill.records import Sampling
from potstill.store.events import Progress
from potstill.store.ledger import Ledger
from potstill.store.run import Run
from potstill.tasks import answer_tokens
from potstill.tasks.base import Task
from potstill.tasks.prompting import Strategy, build_strategy
from potstill.tasks.prompting.examples import Worked, choose_examples, with_others

_CLOSED = frozenset({"accuracy", "math_accuracy"})
"""Tasks whose answers can be told from reasons wherever they stand: a label, a letter, a value."""


@dataclass(frozen=True)
class Prompting:
    """What the teacher was told besides: its strategy, and the worked examples."""

    strategy: Strategy
    examples: tuple[Worked, ...]


def open_prompting(run: Run, task: Task) -> Prompting | None:
    """The teacher's own prompting, its examples out of the training rows; None where it is asked as the others are."""
    if not run.spec.examined_as_taught:
        return None
    prompting = run.spec.generation.prompting
    strategy = build_strategy(prompting, task.schema)
    return Prompting(strategy, choose_examples(prompting.examples, strategy, task, open_split(run, "train", "evaluation")))


def talks_of(prompting: Prompting, seat: Seat, questions: Sequence[Question]) -> list[Talk[Said]]:
    """What is said to the teacher of each question."""
    return [prompting.strategy.talk(seat, with_others(question.messages, prompting.examples), 0) for question in questions]


def greedy_seat(model: Model, task: Task) -> Seat:
    """The teacher's place: greedy, with room for the answer alone, to which its strategy adds room for reasons."""
    return Seat(model.name, model, Sampling(max_new_tokens=answer_tokens(task)))


async def ask_as_taught(
    model: Model,
    task: Task,
    questions: Sequence[Question],
    ledger: Ledger,
    prompting: Prompting,
    *,
    progress: Progress | None = None,
    budget: Budget | None = None,
) -> list[Reply]:
    """Replies in the order of the questions, each with all that was asked for it. Raises as `ask_questions` does."""
    asked: list[tuple[Answered, ...]] = [()] * len(questions)
    noted = (_noting(talk, place, asked) for place, talk in enumerate(talks_of(prompting, greedy_seat(model, task), questions)))
    talk = together(list(noted), last=False)
    try:
        step = next(talk)
        while True:
            answers = await ask_async(model, [ask.request for ask in step.asks], ledger, progress, budget)
            step = talk.send([Answered(ask, request_key(model, ask.request), answers.of(ask.request)) for ask in step.asks])
    except StopIteration as end:
        said: list[Said] = end.value
    local = model.capabilities.logits
    replies = [_read(task, one, answered, ledger, local=local) for one, answered in zip(said, asked, strict=True)]
    require_some(model, replies)
    return replies


def _noting(talk: Talk[Said], place: int, asked: list[tuple[Answered, ...]]) -> Talk[Said]:
    """The talk, whose questions are written down in their order, with their answers."""
    answers: Sequence[Answered] | None = None
    while True:
        try:
            step = next(talk) if answers is None else talk.send(answers)
        except StopIteration as end:
            result: Said = end.value
            return result
        answers = yield step
        asked[place] += tuple(answers)


def _read(task: Task, said: Said, asked: tuple[Answered, ...], ledger: Ledger, *, local: bool) -> Reply:
    completion = ledger.get(said.key)
    assert completion is not None, "it was answered just now"
    requests, usages = tuple(one.ask.request for one in asked), tuple(one.completion.usage for one in asked)
    if completion.finish_reason == "error":
        return Reply(completion, None, failed=not local, no_room=local, requests=requests, usages=usages)
    # Reasons that nothing tells from the answer are no answer, as they were none when the teacher taught.
    readable = not said.reasoned or said.told_apart or task.agreement in _CLOSED
    return Reply(completion, task.parse(said.answer) if readable else None, requests=requests, usages=usages)

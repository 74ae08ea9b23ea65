"""Worked examples: training rows with their gold answers, as turns before the question (Brown et al. 2020, arXiv 2005.14165)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest

from potstill.errors import DataError
from potstill.records import Example, Message
from potstill.store.atomic import fingerprint
from potstill.tasks.base import Task
from potstill.tasks.prompting.base import Strategy

_LOOKED_AT = 5_000


@dataclass(frozen=True, slots=True)
class Worked:
    """One example: the row's id, its question and its answer as turns."""

    id: str
    turns: tuple[Message, ...]


def choose_examples(count: int, strategy: Strategy, task: Task, rows: Iterable[Example]) -> tuple[Worked, ...]:
    """`count` worked examples and one to spare, spread over the gold answers; the same for the same rows, whatever their order.

    Only the first 5,000 rows are looked at. Raises DataError where too few of them can serve.
    """
    if not count:
        return ()
    by_answer: defaultdict[str, list[Worked]] = defaultdict(list)
    for row in islice(rows, _LOOKED_AT):
        answer, asked = strategy.worked(row), task.render(row)
        if answer is not None and asked is not None and asked[-1].role == "user":
            by_answer[row.reference[0]].append(Worked(row.id, (asked[-1], Message("assistant", answer.strip()))))
    for found in by_answer.values():
        found.sort(key=lambda worked: fingerprint(["example", worked.id]))
    order = sorted(by_answer, key=lambda answer: fingerprint(["answer", answer]))
    spread = [worked for level in zip_longest(*(by_answer[answer] for answer in order)) for worked in level if worked is not None]
    if len(spread) <= count:
        raise DataError(
            f"generation.prompting.examples: {count} worked examples are wanted, but only {len(spread)} training rows can serve (one is "
            "kept to spare); they need a `reference`, and for chain_of_thought a `rationale`"
        )
    return tuple(spread[: count + 1])


def with_examples(messages: tuple[Message, ...], examples: Sequence[Worked], example: Example) -> tuple[Message, ...]:
    """`messages` with the examples behind the system prompt; a row is never its own example, nor is the row that it was made from."""
    # A new prompt's group is the first row that it goes back to.
    return with_others(messages, examples, {example.id, example.source, example.group})


def with_others(messages: tuple[Message, ...], examples: Sequence[Worked], own: Collection[str | None] = ()) -> tuple[Message, ...]:
    """`messages` with the examples behind the system prompt, less those of rows that `own` names; always as many, for one is spare."""
    if not examples:
        return messages
    others = [worked for worked in examples if worked.id not in own][: len(examples) - 1]
    system = messages[:1] if messages[0].role == "system" else ()
    return (*system, *(turn for worked in others for turn in worked.turns), *messages[len(system) :])

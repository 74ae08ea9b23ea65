"""Every answer that the gates keep: a row each."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.generation.candidate import Candidate
from potstill.generation.choosing.base import Chosen, Situation, kept
from potstill.generation.choosing.likeness import grouped, is_closed, same_answer
from potstill.models.talk import Talk
from potstill.tasks.base import Task


def every(situation: Situation, candidates: Sequence[Candidate]) -> Talk[Chosen]:
    """All that are kept; of equal answers the first. A label in other words is the same label; a sum worked out otherwise is another."""
    told = [(_told(candidate.text.strip(), situation.task), candidate) for candidate in kept(candidates)]
    same = same_answer(situation.task)
    return Chosen(
        tuple(group[0][1] for group in grouped(told, lambda one, other: one[0][0] == other[0][0] and same(one[0][1], other[0][1])))
    )
    yield  # a talk without questions


def _told(text: str, task: Task) -> tuple[str, str]:
    """What is said besides the answer where that counts (how a sum was worked out), and the answer."""
    answer = task.parse(text) if is_closed(task) else None
    if answer is None:
        return "", text
    worked_out = task.agreement == "math_accuracy" and len(text.split()) > 1
    return (text if worked_out else ""), answer

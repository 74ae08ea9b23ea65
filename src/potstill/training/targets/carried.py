"""Distributions of another tokenizer's tokens, carried over to the positions of a student's answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from potstill.training.targets.alignment import END, Beliefs, StudentTokens, project
from potstill.training.targets.answers import Answer, Store


@dataclass(frozen=True)
class Heard:
    """A teacher's beliefs along an answer, and where in its own text the answer begins: templates may write something before it."""

    beliefs: Beliefs
    lead: int


def carry(answer: Answer, content: bytes, heard: Heard, student: StudentTokens, store: Store) -> None:
    """Put the teacher's distributions at an answer's positions, as far as both write the same bytes: the answer's own text, and its end
    where the teacher's end is known. What the student's template writes around it stays as it is."""
    tokens = [student.spelt[number] or b"" for number in answer.ids_M[:-1]] + [END]
    lead = find_content(tokens[:-1], content)
    if lead is None:
        return
    ours, theirs = b"".join(tokens)[lead:], b"".join(heard.beliefs.tokens)[heard.lead :]
    shared = lead + _common(ours, theirs)
    begins = accumulate(map(len, tokens), initial=0)
    for place, (begin, token) in enumerate(zip(begins, tokens, strict=False)):
        if begin + len(token) <= lead or begin + len(token) > shared:
            continue
        before = token[: max(lead - begin, 0)]
        found = project(heard.beliefs, heard.lead + max(begin - lead, 0), before, token, int(answer.ids_M[place]))
        if found is not None:
            store.put(answer.row, answer.place + place, *found.likeliest(store.k))


def find_content(tokens: Iterable[bytes], content: bytes) -> int | None:
    """Where an answer's text begins in what its tokens write; None where they do not write it."""
    found = b"".join(tokens).rfind(content)
    return None if found < 0 else found


def _common(one: bytes, other: bytes) -> int:
    """Length of the common beginning."""
    shorter = min(len(one), len(other))
    return next((place for place in range(shorter) if one[place] != other[place]), shorter)

"""Closed label sets: inference, intent routing, moderation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from potstill.errors import SpecError
from potstill.records import Example
from potstill.spec.sections import TaskSpec
from potstill.tasks.base import SingleTurn
from potstill.tasks.replies import answer_part, layers

_SEPARATORS = re.compile(r"(?<=[^\W_])[\s_-]+(?=[^\W_])")
_ANCHOR = re.compile(
    r"\b(?:answer|label|class|category|intent|classification|prediction|verdict|relation(?:ship)?)\b[\"'*_`]*\s*"
    r"(?:\b(?:is|would be|should be)\b|[:=])[\s:\"'*_`]*(?=([^\n]+))",
    re.IGNORECASE,
)
_CLAUSE = re.compile(r"[.,;:)\n]|\s(?:because|since|as|so)\s", re.IGNORECASE)
_NEGATION = re.compile(r"(?:\bnot|n't|\bneither|\bnor|\brather than|\binstead of)\s+(?:an?\s+|the\s+)?[\"'*_`(]*$")


@dataclass(frozen=True)
class Nli(SingleTurn):
    """Choose one of `labels`."""

    labels: tuple[str, ...] = ()
    _by_key: dict[str, str] = field(init=False, repr=False, compare=False)
    _mention: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_key", _keys(self.labels))
        # One letter or digit in running text is more often a word or a count than a label.
        words = sorted((key for key in self._by_key if len(key) > 1), key=len, reverse=True)
        pattern = "|".join(re.escape(word) for word in words) or r"(?!)"
        object.__setattr__(self, "_mention", re.compile(rf"(?<!\w)(?=({pattern})(?!\w))"))

    def parse(self, text: str) -> str | None:
        """The one label that a reply gives; None where it gives none, or leaves open which.

        Read in this order: the whole reply; what follows the last `label:` or `the answer is`; a first or last line of its own;
        the only label that is mentioned as whole words. Letter case, quotes, markdown, punctuation, and whether words are
        joined by spaces, hyphens or underscores do not matter. Of labels within labels the longest counts.
        """
        if text in self.labels:
            return text
        reply = answer_part(text)
        if label := self._alone(reply):
            return label
        if anchored := _ANCHOR.findall(reply):
            clauses = (anchored[-1], _CLAUSE.split(anchored[-1])[0])
            found = self._stated(clauses) or set(self._mentions(anchored[-1]))
            if found:
                return _only(found)
        lines = reply.splitlines()
        return _only(self._stated(lines[:1] + lines[-1:]) or set(self._mentions(reply)))

    def options(self, example: Example) -> tuple[str, ...]:
        """The labels."""
        del example
        return self.labels

    def expand(self, example: Example) -> list[Example]:
        """The row itself. A reference that is no label stays as it is: what it mentions is not what it says."""
        return [replace(example, reference=tuple(self._alone(gold) or gold for gold in example.reference))]

    def _stated(self, texts: Sequence[str]) -> set[str | None]:
        return {label for text in texts if (label := self._alone(text))}

    def _alone(self, text: str) -> str | None:
        for layer in layers(text):
            if label := self._by_key.get(_key(layer)):
                return label
        return None

    def _mentions(self, text: str) -> Iterator[str | None]:
        """Labels within a text; None for one that is denied, which is not an answer and not its absence either."""
        normal = _key(text)
        reached = 0
        for match in self._mention.finditer(normal):
            start, end = match.span(1)
            if end <= reached:
                continue  # a label within a longer one
            reached = end
            yield None if _NEGATION.search(normal[:start]) else self._by_key[match[1]]


def nli(spec: TaskSpec, labels: Sequence[str]) -> SingleTurn:
    """The nli task over the spec's labels, or, where they come from the data, over `labels`.

    Rows without a system prompt are given one that lists the labels, unless the spec brings an instruction. Raises SpecError for
    fewer than two labels, and for labels that differ in case or spacing alone.
    """
    chosen = spec.labels if spec.labels is not None else tuple(labels)
    if len(chosen) < 2:
        raise SpecError(f"task.labels: an nli task chooses between at least two labels, found {len(chosen)}")
    return Nli(
        type=spec.type,
        metrics=("accuracy", "macro_f1"),
        agreement="accuracy",
        max_new_tokens=spec.max_new_tokens or 32,
        instruction=spec.instruction if spec.instruction is not None else _instruction(chosen),
        labels=chosen,
    )


def _instruction(labels: Sequence[str]) -> str:
    listed = "\n".join(f"- {label}" for label in labels)
    return f"Choose the label that fits. Answer with the label alone, exactly as it is written here:\n{listed}"


def _keys(labels: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for label in labels:
        key = _key(label)
        if not key:
            raise SpecError("task.labels: a label is empty; remove it, or give it a name")
        if key in found:
            raise SpecError(f'task.labels: "{found[key]}" and "{label}" cannot be told apart in a reply; rename one')
        found[key] = label
    return found


def _key(text: str) -> str:
    return _SEPARATORS.sub(" ", " ".join(text.split())).casefold()


def _only(found: set[str | None]) -> str | None:
    return found.pop() if len(found) == 1 else None

"""How probable a model found each label, told by the tokens that it wrote and by those that it might have written instead.

Nothing is computed for it: while an answer is written, each place has the probabilities of the likeliest tokens. Of these, those count that
lead to labels. A token that leads to one label alone stands for that label; those that several labels begin with are told apart at the next
place, as far as the answer went that way. So the answer's own probability is that of its tokens among all that lead to labels, and labels
that part from the answer by one token share that token's probability equally.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from potstill.records import TokenLogprob

MOST_TOKENS = 32
"""So many of the likeliest tokens are looked at at each place; what is less probable counts as 0."""


@dataclass(frozen=True, slots=True)
class _Way:
    """Where a token leads: what the answer then begins with (None: it has ended), and the labels that remain."""

    text: str | None
    labels: tuple[str, ...]


class LabelWays:
    """A closed label set, as tokens spell it; letter case and white space before the first letter do not matter."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = {label: _plain(label) for label in labels}

    def probabilities(self, places: Sequence[TokenLogprob]) -> dict[str, float] | None:
        """The labels' shares, which sum up to 1; None where no likely first token leads to one."""
        found = dict.fromkeys(self._labels, 0.0)
        here = _Way("", tuple(self._labels))
        mass = 1.0
        for place in places:
            ways = self._ways(here, place)
            total = sum(ways.values())
            if total <= 0 or len(here.labels) == 1:
                break
            chosen = self._step(here, place.token)
            goes_on = chosen if chosen is not None and chosen.text is not None else None
            for way, probability in ways.items():
                if way != goes_on:
                    _share(found, mass * probability / total, way.labels)
            mass *= ways[goes_on] / total if goes_on is not None else 0.0
            if goes_on is None:
                break
            here = goes_on
        if here.text == "" and not any(found.values()):
            return None
        # Ended by the limit, or beside all labels: what is left is of those that were still open, the whole one first.
        _share(found, mass, tuple(label for label in here.labels if self._labels[label] == here.text) or here.labels)
        return found

    def _ways(self, here: _Way, place: TokenLogprob) -> dict[_Way, float]:
        """The probability of each way on from here."""
        ways: dict[_Way, float] = {}
        for token, logprob in {**dict(place.top), place.token: place.logprob}.items():
            way = self._step(here, token)
            if way is not None:
                ways[way] = ways.get(way, 0.0) + math.exp(logprob)
        return ways

    def _step(self, here: _Way, token: str) -> _Way | None:
        """Where a token leads; None where to no label. A stop token is empty; one without letters or digits may end an answer too."""
        assert here.text is not None, "an answer that has ended has no further token"
        text = _plain(here.text + token)
        labels = tuple(label for label in here.labels if self._labels[label].startswith(text))
        if token and labels:
            return _Way(text, labels)
        if any(letter.isalnum() for letter in token):
            return None
        whole = tuple(label for label in here.labels if self._labels[label] == here.text)
        return _Way(None, whole) if whole else None


def _share(found: dict[str, float], mass: float, labels: Sequence[str]) -> None:
    for label in labels:
        found[label] += mass / len(labels)


def _plain(text: str) -> str:
    return text.lstrip().casefold()

"""A teacher's belief about the next bytes of a text, said in the tokens of a student that cuts the text otherwise.

A student's position is a place in the text between two of its own tokens. The teacher's belief there is its distribution at the last
boundary of its own tokens at or before that place, restricted to tokens that go on with what the student has read since (and
renormalised). Each token's mass goes to the longest student token that the bytes after the place begin with. Where the teacher's own
token of the text ends inside the student's, its mass is shared out once more by the teacher's next distribution, and so on: the
student's own token gets the product of the teacher's. docs/alignment.md says what of this is exact.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from potstill.models.tokens import SPECIAL

END = SPECIAL + b"end of the answer"
"""Stands for whatever token ends an answer, on both sides."""

_NOTHING = 1e-9
"""A smaller probability of all other tokens is what rounding leaves."""

Ids = NDArray[np.int64]
Masses = NDArray[np.float64]


@dataclass(frozen=True)
class Begun:
    """How probability falls on the student's first tokens: `masses_M` on `ids_M` (which may repeat; −1: no token of the student begins so),
    `own` on the teacher's own token of the text, `rest` on what is not known. They sum to 1."""

    ids_M: Ids
    masses_M: Masses
    own: float
    rest: float = 0.0


class Beliefs(Protocol):
    """A teacher's distributions at the beginning of each of its own tokens of a text."""

    @property
    def tokens(self) -> Sequence[bytes]:
        """The teacher's own tokens of the text, which join to it."""
        ...

    def begin(self, place: int, consumed: bytes, before: bytes) -> Begun | None:
        """Of the token at `place`, known to go on with `consumed`: the student's first token of `before` and what follows `consumed`.

        None where nothing is known.
        """
        ...


class Projected:
    """A distribution over the student's tokens, and `rest`: on no token of it, or unknown."""

    def __init__(self) -> None:
        self._ids: list[Ids] = []
        self._masses: list[Masses] = []
        self.rest = 0.0

    def add(self, ids_M: Ids, masses_M: Masses) -> None:
        """Masses on tokens, which may repeat."""
        self._ids.append(ids_M)
        self._masses.append(masses_M)

    def likeliest(self, k: int) -> tuple[Ids, Masses, float]:
        """The at most `k` likeliest tokens, their probabilities, and what is left for all others."""
        ids, masses = np.concatenate(self._ids), np.concatenate(self._masses)
        whole = masses.sum() + self.rest
        known, places = np.unique(ids[ids >= 0], return_inverse=True)
        p = np.bincount(places, weights=masses[ids >= 0], minlength=len(known)) / whole
        order = np.argsort(-p, kind="stable")[:k]
        order = order[p[order] > 0]
        rest = 1.0 - float(p[order].sum())
        return known[order], p[order], rest if rest > _NOTHING else 0.0


def project(beliefs: Beliefs, offset: int, before: bytes, own: bytes, own_id: int) -> Projected | None:
    """The belief at byte `offset` of the teacher's text, in the student's tokens; None where the teacher's is not known.

    `before` is text that the student's template puts there and the teacher's does not; `own` is the student's token in the text, `before`
    included, and `own_id` its id.
    """
    starts = list(accumulate((len(token) for token in beliefs.tokens), initial=0))
    place = bisect_right(starts, offset) - 1
    consumed = b"".join(beliefs.tokens[place : place + 1])[: offset - starts[place]]
    found, chain = Projected(), 1.0
    while place < len(beliefs.tokens):
        begun = beliefs.begin(place, consumed, before)
        if begun is None:
            return None
        found.add(begun.ids_M, chain * begun.masses_M)
        found.rest += chain * begun.rest
        chain *= begun.own
        before += beliefs.tokens[place][len(consumed) :]
        if len(before) >= len(own):
            found.add(np.array([own_id]), np.array([chain]))
            return found
        place, consumed = place + 1, b""
    return None


class StudentTokens:
    """A student's tokens by their bytes (`spelt`, None: no token); `end_id` is the one that ends its answers."""

    def __init__(self, spelt: Sequence[bytes | None], end_id: int) -> None:
        self.spelt = [END if number == end_id else text for number, text in enumerate(spelt)]
        self._ids: dict[bytes, int] = {}
        for number, text in enumerate(self.spelt):
            if text:
                self._ids.setdefault(text, number)
        self._longest = max(map(len, self._ids), default=0)
        self._sorted = sorted(self._ids)

    def first(self, text: bytes) -> int:
        """The longest token that the text begins with; −1 where there is none."""
        for length in range(min(len(text), self._longest), 0, -1):
            found = self._ids.get(text[:length])
            if found is not None:
                return found
        return -1

    def longer(self, text: bytes) -> list[tuple[bytes, int]]:
        """Every token that begins with `text` and goes on, the shortest first, and its id."""
        some = self._sorted[bisect_left(self._sorted, text) : _end_of(self._sorted, text)]
        return sorted(((token, self._ids[token]) for token in some if len(token) > len(text)), key=lambda pair: len(pair[0]))


class Crossing:
    """Which of a student's tokens begins what a teacher writes, for all of the teacher's tokens (`spelt`) at once."""

    def __init__(self, spelt: Sequence[bytes | None], student: StudentTokens) -> None:
        self.student = student
        self._known = np.array([number for number, text in enumerate(spelt) if text], dtype=np.int64)
        texts = [text for text in spelt if text]
        order = sorted(range(len(texts)), key=texts.__getitem__)
        self._order_T = self._known[order]
        self._texts = [texts[place] for place in order]
        self.after = lru_cache(maxsize=1024)(self._after)
        self.begun_by = lru_cache(maxsize=1024)(self._begun_by)
        self.firsts_V = np.full(len(spelt), -1, dtype=np.int64)
        """The student's first token of each token alone."""
        self.firsts_V[self._order_T] = [student.first(text) for text in self._texts]

    def _after(self, consumed: bytes, before: bytes) -> tuple[Ids, Ids]:
        """The tokens that go on with `consumed`, and the student's first token of `before` and what follows it."""
        begin, end = bisect_left(self._texts, consumed), _end_of(self._texts, consumed)
        places = [place for place in range(begin, end) if len(self._texts[place]) > len(consumed)]
        firsts = [self.student.first(before + self._texts[place][len(consumed) :]) for place in places]
        return self._order_T[places], np.array(firsts, dtype=np.int64)

    def _begun_by(self, before: bytes) -> tuple[Ids, Ids, int]:
        """The tokens that make the student's first token longer than `before` allows, that token, and the one for all other tokens."""
        firsts: dict[int, int] = {}
        for token, number in self.student.longer(before):
            needed = token[len(before) :]
            places = range(bisect_left(self._texts, needed), _end_of(self._texts, needed))
            firsts |= dict.fromkeys(places, number)  # a longer token comes later, and stays
        return self._order_T[list(firsts)], np.array(list(firsts.values()), dtype=np.int64), self.student.first(before)


class WholeBeliefs:
    """The beliefs of a teacher whose whole distributions are known: `p_MV` at the beginning of each of its M tokens `ids_M` of a text."""

    def __init__(self, crossing: Crossing, tokens: Sequence[bytes], ids_M: Ids, p_MV: NDArray[np.floating]) -> None:
        self.tokens, self._crossing, self._ids_M, self._p_MV = tokens, crossing, ids_M, p_MV

    def begin(self, place: int, consumed: bytes, before: bytes) -> Begun | None:
        """As `Beliefs` has it; not known where all that could follow has a probability of 0."""
        p_V, own = self._p_MV[place].astype(np.float64), self._ids_M[place]
        if consumed:
            ids_M, firsts_M = self._crossing.after(consumed, before)
            whole = p_V[ids_M].sum()
            if whole == 0.0:
                return None
            p_V = p_V / whole
            others = ids_M != own
            return Begun(firsts_M[others], p_V[ids_M[others]], float(p_V[own]))
        p_V = p_V / p_V.sum()
        own_p = float(p_V[own])
        p_V[own] = 0.0
        if not before:
            return Begun(self._crossing.firsts_V, p_V, own_p)
        ids_M, firsts_M, usual = self._crossing.begun_by(before)
        masses_M = p_V[ids_M]
        left = max(1.0 - own_p - masses_M.sum(), 0.0)
        return Begun(np.append(firsts_M, usual), np.append(masses_M, left), own_p)


class SaidBeliefs:
    """The beliefs of which a server said the likeliest tokens: of each token of a text its `tops`, bytes and probability.

    A token without `tops` is not known. What is left of 1 is `rest`; inside a token, where nothing is known of how it would
    fall on tokens that go on so, the tokens that were said are all there is.
    """

    def __init__(self, student: StudentTokens, tokens: Sequence[bytes], tops: Sequence[dict[bytes, float]]) -> None:
        self.tokens, self._student, self._tops = tokens, student, tops

    def begin(self, place: int, consumed: bytes, before: bytes) -> Begun | None:
        """As `Beliefs` has it."""
        own = self.tokens[place]
        known = {text: p for text, p in self._tops[place].items() if len(text) > len(consumed) and text.startswith(consumed)}
        if not known.get(own):
            return None
        whole = sum(known.values()) if consumed else max(sum(known.values()), 1.0)
        others = {text: p for text, p in known.items() if text != own}
        firsts = [self._student.first(before + text[len(consumed) :]) for text in others]
        masses = np.array(list(others.values()), dtype=np.float64) / whole
        own_p = known[own] / whole
        return Begun(np.array(firsts, dtype=np.int64), masses, own_p, max(1.0 - own_p - float(masses.sum()), 0.0))


def _end_of(texts: Sequence[bytes], prefix: bytes) -> int:
    """Where, in sorted texts, those that begin with `prefix` end."""
    last = prefix.rstrip(b"\xff")
    return bisect_left(texts, last[:-1] + bytes([last[-1] + 1])) if last else len(texts)

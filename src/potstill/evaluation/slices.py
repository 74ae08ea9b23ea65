"""The same comparison on parts of the rows: by label, by tag, by length of the prompt; and the means over such parts (macro)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from potstill.evaluation.compare import STUDENT, TEACHER, Estimate, Figure, Scored, estimate_to_json, retained, score_to_json
from potstill.evaluation.intervals import percentile_interval
from potstill.evaluation.predict import Question
from potstill.evaluation.resampling import Bootstrap, Column, Study
from potstill.evaluation.sums import BoolArray, FloatArray, IntArray
from potstill.records import Score

By = Literal["label", "tag", "length"]
LENGTHS = ("short", "medium", "long")
MOST_TAGS = 50
"""Slices are made of the commonest tags; rows with an id of their own among their tags would make one each."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What a question can be told apart by. `label` is its first reference, where there is a closed label set."""

    label: str | None
    tags: tuple[str, ...]
    length: str

    def to_json(self) -> dict[str, object]:
        """The traits as `evaluation/questions.jsonl` holds them."""
        label = {} if self.label is None else {"label": self.label}
        return {**label, "tag": list(self.tags), "length": self.length}


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the rows: scores by system, and what the student kept there of its teacher's."""

    by: By
    name: str
    scores: dict[str, Score]
    retention: Estimate | None

    def to_json(self) -> dict[str, Any]:
        """The slice as `scores.json` holds it."""
        n = next(iter(self.scores.values())).n
        retention = None if self.retention is None else estimate_to_json(self.retention)
        systems = {system: score_to_json(score) for system, score in self.scores.items()}
        return {"by": self.by, "name": self.name, "n": n, "systems": systems, "retention": retention}


@dataclass(frozen=True, slots=True)
class Sliced:
    """All slices, and by `label`, `tag` and `length` the mean of the slices' scores, each counting as much as the others, by system."""

    slices: list[Slice]
    macro: dict[By, dict[str, Score]]


def find_traits(questions: Sequence[Question], labels: Sequence[str] = ()) -> list[Traits]:
    """The traits of each question. Lengths are thirds: by the characters of all that is asked, the system prompt aside."""
    lengths = [sum(len(message.content) for message in question.messages if message.role != "system") for question in questions]
    bounds = np.quantile(lengths, [1 / 3, 2 / 3])
    places = np.searchsorted(bounds, lengths, side="left")
    return [
        Traits(question.references[0] if labels and question.references else None, question.tags, LENGTHS[place])
        for question, place in zip(questions, places, strict=True)
    ]


def in_slices(scored: Scored, traits: Sequence[Traits], clusters: IntArray, settings: Bootstrap) -> Study[Sliced]:
    """Scores and retention in each slice of the n rows, and macro figures, with paired bootstrap intervals.

    The draws are of all rows (or groups), as for the whole: how many fall into a slice varies, as it would in another test set. In a
    resample that draws nobody of a slice, its score is undefined, and macro figures are the mean of the others.
    """
    names, members = _slices(traits)
    columns = {system: Column(one.statistics, one.value, one.codes, members) for system, one in scored.columns.items()}

    def conclude(draws: list[FloatArray]) -> Sliced:
        drawn, points = dict(zip(columns, draws, strict=True)), {system: column.figures() for system, column in columns.items()}
        slices = []
        for place, name in enumerate(names):
            found = {system: Figure(float(points[system][place]), drawn[system][:, place]) for system in columns}
            slices.append(_slice(name, scored.name, found, clusters[members[:, place]], settings))
        macro = {}
        for by in dict.fromkeys(by for by, _ in names):
            places = [place for place, (kind, _) in enumerate(names) if kind == by]
            if len(places) > 1:
                found = {system: Figure(float(_mean(points[system][places])), _mean(drawn[system][:, places])) for system in columns}
                macro[by] = {
                    system: _score(scored.name, figure, (len(clusters), int(clusters.max()) + 1), settings)
                    for system, figure in found.items()
                }
        return Sliced(slices, macro)

    return Study(list(columns.values()) if names else [], conclude if names else lambda _: Sliced([], {}))


def macro_to_json(sliced: Sliced) -> dict[str, Any]:
    """Macro figures by kind of slice and system, as `scores.json` holds them."""
    return {by: {system: score_to_json(score) for system, score in found.items()} for by, found in sliced.macro.items()}


def _slices(traits: Sequence[Traits]) -> tuple[list[tuple[By, str]], BoolArray]:
    """What slices there are, and which of them each row is in (n, k)."""
    tags = sorted(tag for tag, _ in Counter(tag for one in traits for tag in one.tags).most_common(MOST_TAGS))
    lengths = {one.length for one in traits}
    named: list[tuple[By, str]] = [
        *(("label", label) for label in sorted({one.label for one in traits if one.label is not None})),
        *(("tag", tag) for tag in tags),
        *(("length", length) for length in LENGTHS if length in lengths),
    ]
    places = {one: place for place, one in enumerate(named)}
    members = np.zeros((len(traits), len(named)), dtype=bool)
    for row, one in zip(members, traits, strict=True):
        for name in (("label", one.label), ("length", one.length), *(("tag", tag) for tag in one.tags)):
            if name in places:
                row[places[name]] = True
    # A slice of every row says what the whole says.
    part = np.flatnonzero(~members.all(axis=0))
    return [named[place] for place in part], members[:, part]


def _slice(what: tuple[By, str], metric: str, figures: dict[str, Figure], clusters: IntArray, settings: Bootstrap) -> Slice:
    units, kept = len(np.unique(clusters)), None
    scores = {system: _score(metric, figure, (len(clusters), units), settings) for system, figure in figures.items()}
    if STUDENT in figures and TEACHER in figures:
        kept = retained(figures[STUDENT], figures[TEACHER], units, settings)
    return Slice(*what, scores, kept)


def _score(metric: str, figure: Figure, rows_and_units: tuple[int, int], settings: Bootstrap) -> Score:
    rows, units = rows_and_units
    return Score(metric, figure.point, rows, percentile_interval(figure.draws, units, settings))


def _mean(figures: FloatArray) -> FloatArray:
    """(...): the mean over the last axis of the figures that are defined."""
    defined = np.isfinite(figures)
    found: FloatArray = np.where(defined, figures, 0.0).sum(axis=-1) / np.maximum(defined.sum(axis=-1), 1)
    return np.where(defined.any(axis=-1), found, np.nan)

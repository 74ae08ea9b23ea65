"""The cached targets of a run: what its teacher says of its student's rows, kept on disk so that the teacher is needed once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.models.load import weights_of
from potstill.models.locate import template_stamp, weights_stamp
from potstill.models.weights import load_weights, weights_identity
from potstill.spec.sections import RunSpec
from potstill.store.atomic import fingerprint, read_object, write_json
from potstill.store.run import Run
from potstill.training.batches import TokenRows
from potstill.training.kinship import ids_of_teacher, require_known
from potstill.training.recipe import origin_of, tokenizer_of
from potstill.training.settings import targets_kind
from potstill.training.student import Student
from potstill.training.targets.cache import TargetCache, trained_counts
from potstill.training.targets.filling import Filling, fill
from potstill.training.targets.live_teacher import LiveTeacher
from potstill.training.targets.packing import Packing, SampledPacking, TopKPacking
from potstill.training.targets.reduce import Reduction, Sampled, TopK
from potstill.training.targets.stored import StoredTargets

FORMAT = 1


@dataclass(frozen=True)
class Kept:
    """The caller's `rows`, `tokens` of which are trained, and `new` of which were read now; and the size of the whole cache."""

    rows: int
    new: int
    tokens: int
    bytes: int
    bytes_per_token: float
    folder: Path


class CachedTeacher:
    """The cache of what a run's teacher says to the tokens of `student`."""

    def __init__(self, run: Run, student: Student) -> None:
        self._run, self._student = run, student
        self._teacher_ids = _teacher_ids(run, student)
        base = run.spec.targets.cache or run.path("training", "targets")
        self._cache = TargetCache(base, self._contents(), _packing(run.spec, student.vocabulary))

    def keep(self, rows: TokenRows) -> Kept:
        """Have the teacher read the rows that the cache lacks. It is loaded only where there are any, and let go afterwards."""
        spec, cache = self._run.spec, self._cache
        new = fill(cache, rows, Filling(self._load, _reduction(spec), spec.seed, self._run.events))
        tokens = int(trained_counts(rows).sum())
        return Kept(len(rows), new, tokens, cache.size, cache.size / max(cache.positions, 1), cache.folder)

    def targets(self, rows: TokenRows) -> StoredTargets:
        """The targets of these rows, those that are missing made first."""
        require_known(rows, self._teacher_ids)
        self.keep(rows)
        return StoredTargets(self._cache.rows(rows))

    def _load(self) -> LiveTeacher:
        module = load_weights(weights_of(self._run.spec.teacher)).module
        return LiveTeacher(module, self._student.vocabulary, self._teacher_ids, temperature=teacher_temperature(self._run.spec))

    def _contents(self) -> dict[str, object]:
        """All that a row's targets depend on besides the row."""
        spec, ids = self._run.spec, self._teacher_ids
        kind = targets_kind(spec)
        method: dict[str, object] = {"k": spec.targets.k, "dtype": spec.targets.dtype}
        if kind == "sampled":
            method = {"samples": spec.targets.samples, "seed": spec.seed}
        return {
            "format": FORMAT,
            "kind": kind,
            **method,
            "temperature": teacher_temperature(spec),
            "teacher": _teacher_identity(self._run),
            "vocabulary": self._student.vocabulary,
            "teacher ids": None if ids is None else hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest(),
        }


def _teacher_ids(run: Run, student: Student) -> NDArray[np.int64] | None:
    """The teacher's id of each of the student's tokens. A teacher that the student was cut out of need not be there for that."""
    teacher, origin = weights_of(run.spec.teacher), origin_of(run)
    if origin == teacher:
        return student.kept_ids
    return ids_of_teacher(student, tokenizer_of(origin), tokenizer_of(teacher))


def teacher_temperature(spec: RunSpec) -> float:
    """At which temperature the teacher's distribution is taken."""
    return spec.targets.teacher_temperature or spec.targets.temperature


def _packing(spec: RunSpec, vocabulary: int) -> Packing:
    if targets_kind(spec) == "sampled":
        return SampledPacking(vocabulary, spec.targets.samples)
    return TopKPacking(vocabulary, spec.targets.dtype)


def _reduction(spec: RunSpec) -> Reduction:
    return Sampled(spec.targets.samples) if targets_kind(spec) == "sampled" else TopK(spec.targets.k)


def _teacher_identity(run: Run) -> str:
    """The hash of the teacher's files, kept by their names, sizes and times: hashing takes long, and the files may be gone later."""
    weights, path = weights_of(run.spec.teacher), run.path("training", "teacher.json")
    stamp = fingerprint([weights.model_dump(mode="json"), weights_stamp(weights.model), template_stamp(weights)])
    known: dict[str, Any] = read_object(path, "stamp", "identity") if path.exists() else {}
    if known.get("stamp") != stamp:
        known = {"stamp": stamp, "identity": weights_identity(weights)}
        write_json(path, known)
    return str(known["identity"])

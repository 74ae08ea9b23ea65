"""Where the distributions come from that a student is pulled to: the spec's `targets.kind`, `align` and `teachers` in the making."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from potstill.errors import CapabilityError
from potstill.models.said import SAID, SaidFile
from potstill.models.tokens import token_bytes
from potstill.records import Example
from potstill.store.run import Run
from potstill.training.cached import CachedTeacher
from potstill.training.kinship import ids_of_teacher, require_known
from potstill.training.targets.aligned import Lesson, aligned_targets
from potstill.training.targets.live_teacher import LiveTeacher
from potstill.training.targets.said import said_targets
from potstill.training.targets.several import SeveralTeachers, row_weights
from potstill.training.targets.stored import StoredTargets
from potstill.training.targets.votes import vote_targets

if TYPE_CHECKING:
    from potstill.models.weights import Weights
    from potstill.training.batches import TokenRows
    from potstill.training.student import Student
    from potstill.training.targets.base import Targets

Source = Callable[["TokenRows"], "Targets"]
"""The targets of rows; what is stored by row is made when they are known."""


def live(run: Run, student: Student, origin: Any, teacher: Weights) -> Source:
    """A teacher in memory that reads the student's tokens; `origin` is the tokenizer of what the student is made of."""
    ids = ids_of_teacher(student, origin, teacher.tokenizer)
    spec = run.spec.targets
    targets = LiveTeacher(teacher.module, student.vocabulary, ids, temperature=spec.teacher_temperature or spec.temperature)

    def source(rows: TokenRows) -> Targets:
        require_known(rows, ids)
        return targets

    return source


def cached(run: Run, student: Student) -> Source:
    """What a teacher said of the rows, kept on disk; it is loaded where some were not read yet, and let go."""
    return CachedTeacher(run, student).targets


def several(run: Run, student: Student, origin: Any, teachers: Sequence[Weights], examples: Sequence[Example]) -> Source:
    """All of the spec's teachers in memory, each row taught as `targets.teachers` says; all read the student's tokens."""
    spec, all_teachers = run.spec.targets, run.spec.all_teachers
    every = [ids_of_teacher(student, origin, teacher.tokenizer) for teacher in teachers]
    temperature = spec.teacher_temperature or spec.temperature
    live = [LiveTeacher(one.module, student.vocabulary, ids, temperature=temperature) for one, ids in zip(teachers, every, strict=True)]

    def source(rows: TokenRows) -> Targets:
        for ids in every:
            require_known(rows, ids)
        shares = [(teacher.title, teacher.weight) for teacher in all_teachers]
        return SeveralTeachers(live, row_weights(rows, examples, shares, by_row=spec.teachers == "row"))

    return source


def aligned(run: Run, tokenizer: Any, teacher: Weights, examples: Sequence[Example]) -> Source:
    """A local teacher with another tokenizer than `tokenizer`, the student's; it reads all rows once, before training begins."""
    spec, spelt = run.spec.targets, _spelt(tokenizer)

    def source(rows: TokenRows) -> Targets:
        lesson = Lesson(rows, examples, spelt, spec.k)
        with run.events.progress("the teacher reads the answers", len(rows), "rows") as progress:
            store, share = aligned_targets(lesson, teacher, spec.teacher_temperature or spec.temperature, progress.advance)
        run.events.info(
            f"the teacher's distributions are carried over to {share:.0%} of the answers' tokens; the others have the text's own"
        )
        return StoredTargets(store)

    return source


def votes(run: Run, tokenizer: Any, examples: Sequence[Example]) -> Source:
    """How the votes for several answers fell, or a judge scored labels; `tokenizer` is the student's."""
    spelt = _spelt(tokenizer)

    def source(rows: TokenRows) -> Targets:
        store, voted = vote_targets(tokenizer, rows, examples, spelt, run.spec.targets.k)
        run.events.info(f"{voted:,} of {len(rows):,} rows have shares of more than one answer, and are learnt by those")
        return StoredTargets(store)

    return source


def said(run: Run, tokenizer: Any, examples: Sequence[Example]) -> Source:
    """What endpoints said beside the answers; `tokenizer` is the student's."""
    spelt = _spelt(tokenizer)

    def source(rows: TokenRows) -> Targets:
        file = SaidFile(run.path("generation", SAID))
        store, share = said_targets(file, rows, examples, spelt, run.spec.targets.k)
        run.events.info(f"the endpoint's log-probabilities teach {share:.0%} of the answers' tokens, the text the others")
        return StoredTargets(store)

    return source


def _spelt(tokenizer: Any) -> list[bytes | None]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise CapabilityError(
            f"{type(tokenizer).__name__} does not tell what its tokens write, so that nothing can be carried over to them; set "
            "`targets.kind: auto` and `targets.align: false`, or take a student with a fast tokenizer"
        )
    return token_bytes(backend)

"""How a student's tokens relate to its teacher's: whether the teacher can read what the student reads, token by token. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from potstill.errors import CapabilityError
from potstill.models.chat import prompt_text
from potstill.models.tokens import map_tokens, reads_alike
from potstill.records import Message

if TYPE_CHECKING:
    from potstill.training.batches import TokenRows
    from potstill.training.student import Student

_CHATS_READ = 200
"""So many chats of the data are cut into tokens by both tokenizers: enough to meet whatever they do differently."""


def map_to_teacher(student: Any, teacher: Any) -> NDArray[np.int64] | None:
    """The teacher's id of each of the student tokenizer's ids, −1 where it has none; None where the tokenizers differ."""
    ours, theirs = getattr(student, "backend_tokenizer", None), getattr(teacher, "backend_tokenizer", None)
    if ours is None or theirs is None:
        return np.arange(len(student), dtype=np.int64) if student.get_vocab() == teacher.get_vocab() else None
    return map_tokens(ours, theirs)


def shares_tokens(student: Any, teacher: Any, chats: Iterable[Sequence[Message]]) -> bool:
    """Whether two tokenizers have the same tokens, and cut the data's chats, as the student's template writes them, into the same ones."""
    ids = map_to_teacher(student, teacher)
    if ids is None or student.get_vocab() == teacher.get_vocab():
        return ids is not None
    return reads_alike(student.backend_tokenizer, teacher.backend_tokenizer, ids, _texts(student, islice(chats, _CHATS_READ)))


def ids_of_teacher(student: Student, origin: Any, teacher: Any) -> NDArray[np.int64] | None:
    """The teacher's id of each row of the student's embedding, −1 where it has none; None where all are the same.

    `origin` and `teacher` are tokenizers: of what the student is or was carved out of, and of who teaches it.
    """
    ids = map_to_teacher(origin, teacher)
    assert ids is not None, "a teacher of other tokens"
    if (ids == np.arange(len(ids))).all():
        return student.kept_ids
    if student.kept_ids is not None:
        return _padded(ids, int(student.kept_ids.max()) + 1)[student.kept_ids]
    return _padded(ids, student.vocabulary)


def require_known(rows: TokenRows, teacher_ids: NDArray[np.int64] | None) -> None:
    """Raise CapabilityError where a token stands in the rows that the teacher lacks."""
    if teacher_ids is None:
        return
    lacking = np.flatnonzero(teacher_ids[np.unique(rows.ids)] < 0)
    if len(lacking):
        raise CapabilityError(
            f"{len(lacking)} tokens that stand in the rows (as number {np.unique(rows.ids)[lacking[0]]}) are none of the teacher's; set "
            "`targets.align: true`, or give the student a chat template of the teacher's tokens in `student.chat_template`"
        )


def _padded(ids: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """`ids` for a table of `length` rows: rows beyond the tokenizer are no tokens."""
    return np.concatenate([ids, np.full(max(length - len(ids), 0), -1, dtype=np.int64)])[:length]


def _texts(tokenizer: Any, chats: Iterable[Sequence[Message]]) -> Iterator[str]:
    for messages in chats:
        yield prompt_text(tokenizer, messages, answering=messages[-1].role != "assistant")

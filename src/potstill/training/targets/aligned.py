"""The distributions of a local teacher with another tokenizer, carried over to a student's tokens beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from potstill.errors import CapabilityError
from potstill.models.chat import stop_ids
from potstill.models.tokens import token_bytes
from potstill.records import Example
from potstill.training.batches import TokenRow, TokenRows, collate
from potstill.training.head import head_of, trained_hidden
from potstill.training.rows import encode_rows
from potstill.training.targets.alignment import END, Crossing, StudentTokens, WholeBeliefs
from potstill.training.targets.answers import Answer, Store, answers_of, content_of
from potstill.training.targets.carried import Heard, carry, find_content
from potstill.training.targets.stored import SparseRows

if TYPE_CHECKING:
    from potstill.models.weights import Weights

_ROWS_AT_ONCE = 8
_LONGEST = 1 << 20


@dataclass(frozen=True)
class Lesson:
    """What is carried over: the student's `rows` of `examples`, the bytes of its tokens (`spelt`), and `k` tokens a position."""

    rows: TokenRows
    examples: Sequence[Example]
    spelt: Sequence[bytes | None]
    k: int


def aligned_targets(
    lesson: Lesson, teacher: Weights, temperature: float = 1.0, told: Callable[[int], None] = lambda _: None
) -> tuple[SparseRows, float]:
    """Targets of the answers' positions, and at which share of them the teacher's distribution could be carried over.

    The teacher reads each conversation in its own template. Its distributions are taken at `temperature`. `told` hears how many of the
    teacher's rows are done. Raises CapabilityError where nothing fits.
    """
    store = Store(lesson.rows, lesson.k)
    ours = {(answer.example, answer.turn): answer for answer in answers_of(lesson.rows, lesson.examples, lesson.spelt)}
    student = StudentTokens(lesson.spelt, _end_id(list(ours.values())))
    limit = getattr(teacher.module.config.get_text_config(), "max_position_embeddings", None) or _LONGEST
    rows = encode_rows(teacher.tokenizer, lesson.examples, max_length=limit).rows
    theirs = token_bytes(teacher.tokenizer.backend_tokenizer)
    found: dict[int, list[Answer]] = {}
    for answer in answers_of(rows, lesson.examples, theirs):
        found.setdefault(answer.row, []).append(answer)
    ends = {int(answer.ids_M[-1]) for answers in found.values() for answer in answers}
    # Other tokens that would end an answer stay what they are to a student that has them.
    ends |= {token for token in stop_ids(teacher.tokenizer, teacher.module) if theirs[token] not in student.spelt}
    theirs = [END if number in ends else text for number, text in enumerate(theirs)]
    crossing = Crossing(theirs, student)
    for row, p_NV in _distributions(teacher, rows, temperature):
        for answer in found.get(row.index, []):
            mine = ours.get((answer.example, answer.turn))
            if mine is not None:
                content = content_of(lesson.examples[answer.example], answer.turn)
                heard = _heard(answer, content, crossing, theirs, p_NV)
                if heard is not None:
                    carry(mine, content, heard, student, store)
        told(1)
    if not store.filled.any():
        raise CapabilityError(
            f"targets.align: no answer reads the same in the tokens of teacher and student ({len(ours):,} answers); set "
            "`training.objective: sft`"
        )
    return store.rows(), float(store.filled.sum()) / max(sum(len(answer.ids_M) for answer in ours.values()), 1)


def _heard(answer: Answer, content: bytes, crossing: Crossing, spelt: Sequence[bytes | None], p_NV: NDArray[np.float32]) -> Heard | None:
    tokens = [spelt[token] or b"" for token in answer.ids_M]
    lead = find_content(tokens[:-1], content)
    if lead is None:
        return None
    p_MV = p_NV[answer.place : answer.place + len(tokens)]
    return Heard(WholeBeliefs(crossing, tokens, answer.ids_M, p_MV), lead)


def _end_id(answers: Sequence[Answer]) -> int:
    return int(answers[0].ids_M[-1]) if answers else -1


def _distributions(teacher: Weights, rows: TokenRows, temperature: float) -> Iterator[tuple[TokenRow, NDArray[np.float32]]]:
    """Each row, the longest first, and its trained positions' probabilities (N, V) of the tokens that the tokenizer has."""
    head, device = head_of(teacher.module), teacher.module.device
    known = len(token_bytes(teacher.tokenizer.backend_tokenizer))
    order = np.argsort(-rows.lengths, kind="stable")
    for start in range(0, len(order), _ROWS_AT_ONCE):
        some = [rows[int(place)] for place in order[start : start + _ROWS_AT_ONCE]]
        batch = collate(some, 0)
        with torch.inference_mode():
            hidden_ND = trained_hidden(teacher.module, batch.to(device))
            for row, hidden_nD in zip(some, torch.split(hidden_ND, batch.counts_B.tolist()), strict=True):
                logits_nV = head.logits(hidden_nD)[:, :known].float() / temperature
                yield row, logits_nV.softmax(dim=-1).cpu().numpy()

"""What an endpoint said of the likeliest tokens beside its answers, as targets of a student with whatever tokenizer."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from potstill.errors import CapabilityError
from potstill.models.said import SaidFile
from potstill.records import Example, TokenLogprob
from potstill.training.batches import TokenRows
from potstill.training.targets.alignment import END, SaidBeliefs, StudentTokens
from potstill.training.targets.answers import Store, answers_of, content_of
from potstill.training.targets.carried import Heard, carry, find_content
from potstill.training.targets.stored import SparseRows

_ENDS = frozenset(
    name.encode()
    for name in (
        *("</s>", "<eos>", "<end_of_turn>", "<|im_end|>", "<|end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>"),
        *("<|return|>", "<|END_OF_TURN_TOKEN|>", "<｜end▁of▁sentence｜>", "[EOS]"),
    )
)
"""Names of the tokens that end answers, by which servers show them."""
_LONGEST_TOKEN = 64
_UNREADABLE = "�".encode()


def said_targets(
    said: SaidFile, rows: TokenRows, examples: Sequence[Example], spelt: Sequence[bytes | None], k: int
) -> tuple[SparseRows, float]:
    """Targets of the answers' positions, at most `k` tokens each, and at which share of them the endpoint said something.

    `spelt` are the bytes of the student's tokens. Where nothing was said the text's own token is the target. Raises CapabilityError where
    nothing was said of any answer.
    """
    store, answers = Store(rows, k), list(answers_of(rows, examples, spelt))
    positions = sum(len(answer.ids_M) for answer in answers)
    students: dict[int, StudentTokens] = {}
    for answer in answers:
        end_id = int(answer.ids_M[-1])
        student = students.get(end_id) or students.setdefault(end_id, StudentTokens(spelt, end_id))
        example, content = examples[answer.example], content_of(examples[answer.example], answer.turn)
        tokens = said.find(example.messages[: answer.turn], example.messages[answer.turn].content)
        heard = hear(tokens, content, student)
        if heard is not None:
            carry(answer, content, heard, student, store)
    if not store.filled.any():
        raise CapabilityError(
            f"targets.kind: logprobs: of the {len(answers):,} answers to learn none has log-probabilities that fit its text; set "
            "`targets.kind: auto`, or look at generation/logprobs.jsonl"
        )
    return store.rows(), float(store.filled.sum()) / max(positions, 1)


def hear(tokens: Sequence[TokenLogprob], content: bytes, student: StudentTokens) -> Heard | None:
    """The beliefs along an answer of `content`; None where the tokens do not write it.

    Half characters that came without their bytes, and tokens that a server joined, are not known themselves; what follows them is.
    """
    written = [_bytes(one.token) for one in tokens]
    tops = [_tops(one, own) for one, own in zip(tokens, written, strict=True)]
    if any(_UNREADABLE in own for own in written) and _UNREADABLE not in content:
        found = _resolved(written, tops, content)
        if found is None:
            return None
        written, tops = found
    lead = find_content((own for own in written if own != END), content)
    return None if lead is None else Heard(SaidBeliefs(student, written, tops), lead)


def _bytes(token: str) -> bytes:
    """What a token writes; END for the names of tokens that end an answer, and for no text, which is what some servers write for them."""
    try:
        text = token.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        text = token.encode("utf-8", "replace")
    return END if not text or text in _ENDS else text


def _tops(one: TokenLogprob, own: bytes) -> dict[bytes, float]:
    found: dict[bytes, float] = {}
    for token, logprob in one.top:
        text = _bytes(token)
        if _UNREADABLE not in text:
            found[text] = found.get(text, 0.0) + math.exp(logprob)
        if logprob == one.logprob and text != own and own.endswith(text):
            return {}  # a server that joins half characters to the next token says of the last alone
    if _UNREADABLE not in own:
        found.setdefault(own, math.exp(one.logprob))
    return found


def _resolved(written: list[bytes], tops: list[dict[bytes, float]], content: bytes) -> tuple[list[bytes], list[dict[bytes, float]]] | None:
    """The tokens with runs of unreadable ones joined into one unknown token of the bytes that the answer has there."""
    parts: list[tuple[bytes, dict[bytes, float]] | None] = []
    for own, top in zip(written, tops, strict=True):
        if _UNREADABLE not in own:
            parts.append((own, top))
        elif not parts or parts[-1] is not None:
            parts.append(None)
    pattern = b"".join(
        b"(.{1,%d}?)" % _LONGEST_TOKEN if part is None else b"" if part[0] == END else b"(" + re.escape(part[0]) + b")" for part in parts
    )
    before, after = (part[0] if part is not None else b"" for part in (parts[0], parts[-1]))
    around = before[: len(before) - len(before.lstrip())], after[len(after.rstrip()) :]
    match = re.fullmatch(pattern, around[0] + content + around[1], re.DOTALL)
    if match is None:
        return None
    texts = iter(match.groups())
    joined = [
        (END, part[1]) if part is not None and part[0] == END else (next(texts), part[1] if part is not None else {}) for part in parts
    ]
    return [text for text, _ in joined], [top for _, top in joined]

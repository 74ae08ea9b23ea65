"""What a tokenizer's tokens stand for, in bytes, and whether two tokenizers have the same ones. No torch here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL = b"\xff\xfe"
"""Begins what stands for a special token: no text has these bytes, so that a special token is never taken for its own name in a text."""

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")

Spelling = Callable[[str], bytes]


def token_bytes(backend: Tokenizer) -> list[bytes | None]:
    """The bytes that each token id writes; None for ids that are no token. Special tokens are SPECIAL and their name.

    Byte-level tokens (GPT-2's letters for bytes) and SentencePiece's (`▁` for a space, `<0x0A>` for a byte) are read as the bytes they
    stand for; tokens of other kinds as their own letters.
    """
    layout = json.loads(backend.to_str())
    spell, added = _spelling(layout), {token["id"]: token for token in layout["added_tokens"]}
    vocabulary = backend.get_vocab(with_added_tokens=True)
    found: list[bytes | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
    for token, number in vocabulary.items():
        if number not in added:
            found[number] = spell(token)
        else:
            found[number] = (SPECIAL if added[number]["special"] else b"") + token.encode()
    return found


def map_tokens(student: Tokenizer, teacher: Tokenizer) -> NDArray[np.int64] | None:
    """The teacher's id of each of the student's ids, −1 where the teacher has no such token; None where the tokenizers differ.

    They are the same where their ordinary tokens are the same byte strings, under whatever ids and in whichever spelling. Special and
    other added tokens may be lacking on either side.
    """
    if student.get_vocab() == teacher.get_vocab():
        return np.arange(max(student.get_vocab().values()) + 1, dtype=np.int64)
    ours, theirs = token_bytes(student), token_bytes(teacher)
    if _ordinary(student, ours) != _ordinary(teacher, theirs):
        return None
    places = _places(teacher, theirs)
    used: dict[bytes, int] = {}
    ids = np.full(len(ours), -1, dtype=np.int64)
    # SentencePiece may have a piece and a byte token for the same byte: text is made of the piece, which finds its like first.
    for number, text in _pieces_first(student, ours):
        turn = used.get(text, 0)
        if turn < len(places.get(text, ())):
            ids[number], used[text] = places[text][turn], turn + 1
    return ids


def reads_alike(student: Tokenizer, teacher: Tokenizer, teacher_ids: NDArray[np.int64], texts: Iterable[str]) -> bool:
    """Whether both cut these texts into the same tokens, under the map."""
    return all(
        teacher_ids[np.array(student.encode(text, add_special_tokens=False).ids, dtype=np.int64)].tolist()
        == teacher.encode(text, add_special_tokens=False).ids
        for text in texts
    )


def _ordinary(backend: Tokenizer, spelt: Sequence[bytes | None]) -> set[bytes | None]:
    added = backend.get_added_tokens_decoder()
    return {text for number, text in enumerate(spelt) if text is not None and number not in added}


def _pieces_first(backend: Tokenizer, spelt: Sequence[bytes | None]) -> list[tuple[int, bytes]]:
    """Ids of tokens and their bytes, byte tokens last."""
    known = [(number, text) for number, text in enumerate(spelt) if text is not None]
    return sorted(known, key=lambda pair: (_BYTE_TOKEN.fullmatch(backend.id_to_token(pair[0]) or "") is not None, pair[0]))


def _places(backend: Tokenizer, spelt: Sequence[bytes | None]) -> dict[bytes, list[int]]:
    found: dict[bytes, list[int]] = {}
    for number, text in _pieces_first(backend, spelt):
        found.setdefault(text, []).append(number)
    return found


def _spelling(layout: dict[str, Any]) -> Spelling:
    parts = json.dumps([layout.get("normalizer"), layout.get("pre_tokenizer"), layout.get("decoder")], ensure_ascii=False)
    if '"ByteLevel"' in parts:
        return _from_byte_level
    if "▁" in parts or '"Metaspace"' in parts:
        return _from_sentencepiece
    return str.encode


def _from_byte_level(token: str) -> bytes:
    letters = _byte_of_letter()
    return b"".join(bytes([letters[letter]]) if letter in letters else letter.encode() for letter in token)


def _from_sentencepiece(token: str) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()


@cache
def _byte_of_letter() -> dict[str, int]:
    """GPT-2's letters: printable Latin-1 characters stand for themselves, other bytes for characters from U+0100 on, in order."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(hidden)}

"""Trimming a tokenizer to the tokens that some data needs, so that a student's embedding is as small as its task.

Byte-pair encoders are trimmed (all students of the catalogue have one). The law: on the data itself the trimmed tokenizer gives
the same tokens as the full one, under the map of ids; any other text it may spell in shorter ones, down to single bytes, and
gives back as the full one does: unchanged, but for what that loses too (SmolLM2's knows no token for some control bytes).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.errors import ModelError
from potstill.store.atomic import read_json, write_json

_RESERVED = re.compile(r"<\|?(unused|reserved|extra_id|dummy|placeholder)[a-z_]*[-_ ]?\d*\|?>")
"""Added tokens that stand for nothing (Gemma brings 6,000, Llama 250): they stay only where the data uses them."""

_NAMED_TOKENS = {"bos_token", "eos_token", "unk_token", "pad_token"}

Pair = tuple[str, str]


@dataclass(frozen=True)
class TrimmedVocabulary:
    """A tokenizer of fewer tokens, and `kept_ids` (V,): the full tokenizer's id of each of its ids."""

    tokenizer: Any
    kept_ids: NDArray[np.int64]


def trim_vocabulary(tokenizer: Any, used_ids: Iterable[int]) -> TrimmedVocabulary:
    """Keep `used_ids`, what they are merged from, added tokens that mean something, and every single byte.

    Raises ModelError where the tokenizer is of a kind that cannot be trimmed without changing what it does.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError(f"{type(tokenizer).__name__} is not a fast tokenizer, and cannot be trimmed; set `student.carve.vocabulary: full`")
    layout: dict[str, Any] = json.loads(backend.to_str())
    check_trimmable(layout)
    kept = _kept_tokens(layout, set(used_ids) | set(tokenizer.all_special_ids))
    new_ids, kept_ids = _renumber(layout, kept)
    _rewrite(layout, new_ids)
    return TrimmedVocabulary(_wrap(tokenizer, layout), np.array(kept_ids, dtype=np.int64))


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Save so that AutoTokenizer reads `tokenizer.json` as it stands.

    Under a model family's own class it would be put together anew, from the family's usual parts. Some classes are used whatever
    the file says (Qwen2's); their usual special tokens are declined by name.
    """
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    declined = dict.fromkeys(_NAMED_TOKENS - set(tokenizer.special_tokens_map))
    write_json(path, declined | read_json(path) | {"tokenizer_class": "PreTrainedTokenizerFast"})


def check_trimmable(layout: dict[str, Any]) -> None:
    """Raise ModelError unless a tokenizer of this layout (a `tokenizer.json`) can be trimmed and still spell any text."""
    model = layout["model"]
    if model.get("type") != "BPE" or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise ModelError(
            f"a tokenizer of type {model.get('type')} cannot be trimmed, only byte-pair ones; set `student.carve.vocabulary: full`"
        )
    _single_bytes(layout)


def _kept_tokens(layout: dict[str, Any], used_ids: set[int]) -> set[str]:
    model = layout["model"]
    vocabulary: dict[str, int] = model["vocab"]
    added = {token["content"]: token for token in layout["added_tokens"]}
    used = {token for token, number in vocabulary.items() if number in used_ids}
    used |= {content for content, token in added.items() if token["id"] in used_ids or not _RESERVED.fullmatch(content)}
    used |= set(_single_bytes(layout))
    if model.get("unk_token"):
        used.add(model["unk_token"])
    # SentencePiece's space: spelt in bytes, it would not be turned back into a space.
    used.add("▁")
    parts_of = _derivation({_pair(merge): rank for rank, merge in enumerate(model["merges"])})
    closed = used | {part for token in used - set(added) for part in parts_of(token)}
    return {token for token in closed if token in vocabulary or token in added}


def _single_bytes(layout: dict[str, Any]) -> list[str]:
    if layout["model"].get("byte_fallback"):
        return [f"<0x{byte:02X}>" for byte in range(256)]
    if '"ByteLevel"' in json.dumps([layout.get("pre_tokenizer"), layout.get("decoder")]):
        from tokenizers.pre_tokenizers import ByteLevel

        return list(ByteLevel.alphabet())
    raise ModelError("this tokenizer cannot spell any text in bytes, so trimming it would lose text; set `student.carve.vocabulary: full`")


def _derivation(ranks: dict[Pair, int]) -> Callable[[str], set[str]]:
    """A function that gives all pieces a token passes through when it is merged from single characters.

    A span of a word that ends as one token is merged in the same order as the span alone: the lowest rank in the word that
    lies in the span is the lowest in the span, and no merge crosses its borders. So what is kept here suffices for the
    token wherever it stands.
    """

    def parts_of(token: str) -> set[str]:
        pieces = list(token)
        seen = set(pieces)
        while len(pieces) > 1:
            rank, place = min((ranks.get(pair, len(ranks)), place) for place, pair in enumerate(pairwise(pieces)))
            if rank == len(ranks):
                break
            pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
            seen.add(pieces[place])
        return seen

    return parts_of


def _pair(merge: str | list[str]) -> Pair:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _renumber(layout: dict[str, Any], kept: set[str]) -> tuple[dict[str, int], list[int]]:
    """New ids by token, and old ids in the new order: the model's tokens as they stood, then added tokens beyond them."""
    vocabulary: dict[str, int] = layout["model"]["vocab"]
    old = {token: number for token, number in vocabulary.items() if token in kept}
    beyond = {token["content"]: token["id"] for token in layout["added_tokens"] if token["content"] in kept - set(old)}
    order = sorted(old, key=old.__getitem__) + sorted(beyond, key=beyond.__getitem__)
    return {token: number for number, token in enumerate(order)}, [(old | beyond)[token] for token in order]


def _rewrite(layout: dict[str, Any], new_ids: dict[str, int]) -> None:
    model = layout["model"]
    model["vocab"] = {token: new_ids[token] for token in model["vocab"] if token in new_ids}
    pairs = map(_pair, model["merges"])
    model["merges"] = [[left, right] for left, right in pairs if {left, right, left + right} <= model["vocab"].keys()]
    layout["added_tokens"] = sorted(
        ({**token, "id": new_ids[token["content"]]} for token in layout["added_tokens"] if token["content"] in new_ids),
        key=lambda token: int(token["id"]),
    )
    layout["padding"] = layout["truncation"] = None
    _rewrite_processor(layout.get("post_processor"), new_ids)


def _rewrite_processor(processor: dict[str, Any] | None, new_ids: dict[str, int]) -> None:
    if processor is None:
        return
    for part in processor.get("processors", ()):
        _rewrite_processor(part, new_ids)
    specials = processor.get("special_tokens")
    for special in specials.values() if isinstance(specials, dict) else ():
        special["ids"] = [new_ids[token] for token in special["tokens"]]
    for name in ("sep", "cls"):
        if isinstance(processor.get(name), list):
            token = processor[name][0]
            processor[name] = [token, new_ids[token]]


def _wrap(tokenizer: Any, layout: dict[str, Any]) -> Any:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(layout)),
        chat_template=tokenizer.chat_template,
        model_max_length=tokenizer.model_max_length,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        clean_up_tokenization_spaces=tokenizer.clean_up_tokenization_spaces,
        **tokenizer.special_tokens_map,
    )

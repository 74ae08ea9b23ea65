"""Texts as hashed words: runs of eight of them, and how far two texts are apart in words."""

from __future__ import annotations

import functools
import re
import zlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.data.text import UNSPACED, normalise

WordArray = NDArray[np.uint32]
GramArray = NDArray[np.uint64]

GRAM_WORDS = 8
"""Words of a run. Brown et al. 2020 (arXiv 2005.14165, appendix C) take 8 to 13, by the length of the rows; questions are short."""

# Words, signs of arithmetic, a minus; other punctuation is dropped, so that it hides nothing.
_TOKENS = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+|[+*/=<>^%×÷]|[-−](?=\s?\d)")
_BASE = np.uint64(0x9E3779B97F4A7C15)


def hash_words(text: str) -> WordArray:
    """One hash a word (L,), after `normalise`, without punctuation. It is odd for numbers and signs of arithmetic, even for others."""
    return np.fromiter(map(_hash_word, _TOKENS.findall(normalise(text))), dtype=np.uint32)


def hash_grams(words: WordArray, width: int = GRAM_WORDS) -> GramArray:
    """One hash for each run of `width` words (L - width + 1,); a shorter text that is not empty is one run (1,)."""
    width = min(width, len(words))
    if not width:
        return np.zeros(0, dtype=np.uint64)
    mixed = mix(words.astype(np.uint64))
    count = len(words) - width + 1
    grams = np.full(count, width, dtype=np.uint64)
    for place in range(width):
        grams = grams * _BASE + mixed[place : place + count]
    return mix(grams)


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele et al. 2014): every bit of the input moves every bit of the output."""
    mixed = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)


def edit_distance(one: Sequence[int], other: Sequence[int]) -> int:
    """Words to insert, remove or exchange between two texts (Levenshtein 1966).

    Bit-parallel over a whole number, a bit a word of `one` (Hyyrö 2003, figure 3): 500 words against 500 in well under a millisecond.
    """
    if not len(one):
        return len(other)
    places: defaultdict[int, int] = defaultdict(int)
    for place, word in enumerate(one):
        places[word] |= 1 << place
    everything, last = (1 << len(one)) - 1, 1 << (len(one) - 1)
    up, down, distance = everything, 0, len(one)
    for word in other:
        same = places.get(word, 0)
        diagonal = (((same & up) + up) ^ up) | same | down
        right, left = down | (everything & ~(diagonal | up)), up & diagonal
        distance += bool(right & last) - bool(left & last)
        right, left = (right << 1) | 1, left << 1
        up, down = (left | ~(diagonal | right)) & everything, right & diagonal & everything
    return distance


@functools.lru_cache(maxsize=1 << 16)  # most words of a text are among a few thousand
def _hash_word(word: str) -> int:
    odd = not word.isalpha() and (not word.isalnum() or any(map(str.isdigit, word)))
    return zlib.crc32(word.encode()) & 0xFFFFFFFE | odd

"""How sparse targets lie on disk: a few flat arrays, as small as what they hold, read at any position without the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from potstill.training.targets.stored import SparseArrays

Arrays = Mapping[str, NDArray[np.generic]]
"""Arrays by name, the first axis of each being positions or tokens."""

_LOW_BITS = 16


class Packing(Protocol):
    """From the targets of P positions to arrays, and back at some of the positions."""

    def pack(self, found: SparseArrays) -> dict[str, NDArray[np.generic]]:
        """The arrays of all positions."""
        ...

    def unpack(self, packed: Arrays, places_P: NDArray[np.int64]) -> SparseArrays:
        """The targets of these positions, in this order."""
        ...


@dataclass(frozen=True)
class TopKPacking:
    """K log-probabilities at each position, and that of the rest: in float16 and at K = 32, 130 bytes, and 4 to 16 more where the
    vocabulary has more than 65,536 tokens."""

    vocabulary: int
    dtype: Literal["float16", "float32"]

    def pack(self, found: SparseArrays) -> dict[str, NDArray[np.generic]]:
        """`ids` and `high`: which tokens, K a position; `logp`: (P, K); `tail`: (P,)."""
        logp_PK, tail_P = found.logp_PK.astype(self.dtype), found.tail_logp_P.astype(self.dtype)
        return {**pack_ids(found.ids_PK.ravel(), self.vocabulary), "logp": logp_PK, "tail": tail_P}

    def unpack(self, packed: Arrays, places_P: NDArray[np.int64]) -> SparseArrays:
        """The targets of these positions, in this order."""
        width = packed["logp"].shape[1]
        tokens_PK = places_P[:, None] * width + np.arange(width)
        ids_PK = unpack_ids(packed, tokens_PK, self.vocabulary)
        logp_PK, tail_P = packed["logp"][places_P].astype(np.float32), packed["tail"][places_P].astype(np.float32)
        return SparseArrays(ids_PK, logp_PK, tail_P, np.ones(len(places_P), dtype=np.bool_))


@dataclass(frozen=True)
class SampledPacking:
    """How often each token was drawn at each position, of `samples` draws: 3 to 4 bytes a token that was, and 4 a position."""

    vocabulary: int
    samples: int

    def pack(self, found: SparseArrays) -> dict[str, NDArray[np.generic]]:
        """`ids` and `high`: which tokens, position after position; `times`: how often each; `starts`: where each position's begin."""
        drawn_PK = found.ids_PK >= 0
        times_T = np.rint(np.exp(found.logp_PK[drawn_PK].astype(np.float64)) * self.samples).astype(np.uint8)
        starts = np.concatenate([[0], np.cumsum(drawn_PK.sum(axis=1))]).astype(np.uint32)
        return {**pack_ids(found.ids_PK[drawn_PK], self.vocabulary), "times": times_T, "starts": starts}

    def unpack(self, packed: Arrays, places_P: NDArray[np.int64]) -> SparseArrays:
        """The targets of these positions, in this order; −1 fills up where a position has fewer tokens than another."""
        begins_P, ends_P = (packed["starts"][places_P + offset].astype(np.int64) for offset in (0, 1))
        width = int((ends_P - begins_P).max(initial=1))
        tokens_PK = begins_P[:, None] + np.arange(width)
        absent_PK = tokens_PK >= ends_P[:, None]
        tokens_PK[absent_PK] = 0
        ids_PK = unpack_ids(packed, tokens_PK, self.vocabulary)
        ids_PK[absent_PK] = -1
        logp_PK = np.log(packed["times"][tokens_PK].astype(np.float32) / np.float32(self.samples))
        nothing_P = np.full(len(places_P), -np.inf, dtype=np.float32)
        return SparseArrays(ids_PK, logp_PK, nothing_P, np.ones(len(places_P), dtype=np.bool_))


def pack_ids(ids_T: NDArray[np.int32], vocabulary: int) -> dict[str, NDArray[np.generic]]:
    """Token ids in 16 bits each (`ids`), and, of vocabularies above 65,536, the bits above those beside them (`high`), several a byte."""
    packed: dict[str, NDArray[np.generic]] = {"ids": (ids_T & 0xFFFF).astype(np.uint16)}
    bits = high_bits(vocabulary)
    if bits:
        each = 8 // bits
        high = np.zeros(-(-len(ids_T) // each) * each, dtype=np.uint8)
        high[: len(ids_T)] = ids_T >> _LOW_BITS
        shifts = np.arange(each, dtype=np.uint8) * np.uint8(bits)
        packed["high"] = np.bitwise_or.reduce(high.reshape(-1, each) << shifts, axis=1)
    return packed


def unpack_ids(packed: Arrays, tokens: NDArray[np.int64], vocabulary: int) -> NDArray[np.int32]:
    """The ids at these places, in an array of the same shape."""
    ids: NDArray[np.int32] = packed["ids"][tokens].astype(np.int32)
    bits = high_bits(vocabulary)
    if bits:
        each = 8 // bits
        high = packed["high"][tokens // each].astype(np.int32) >> (tokens % each * bits).astype(np.int32)
        ids |= (high & ((1 << bits) - 1)) << _LOW_BITS
    return ids


def high_bits(vocabulary: int) -> int:
    """Bits of an id above the lower 16: 0, 1, 2, 4 or 8, so that none crosses a byte."""
    needed = max(0, (vocabulary - 1).bit_length() - _LOW_BITS)
    return next(bits for bits in (0, 1, 2, 4, 8) if bits >= needed)

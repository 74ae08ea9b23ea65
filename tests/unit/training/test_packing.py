"""What is packed comes back: every id exactly, log-probabilities as their format holds them, and in few bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.training.targets.packing import SampledPacking, TopKPacking, high_bits, pack_ids, unpack_ids
from potstill.training.targets.stored import SparseArrays

VOCABULARIES = [2, 65_536, 65_537, 131_072, 131_073, 262_144, 300_000, 2**24]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(VOCABULARIES), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_ids_of_any_vocabulary_come_back_in_any_order(vocabulary, count, seed):
    generator = np.random.default_rng(seed)
    ids = generator.integers(0, vocabulary, count).astype(np.int32)
    ids[:1] = vocabulary - 1
    places = generator.permutation(count)
    assert (unpack_ids(pack_ids(ids, vocabulary), places, vocabulary) == ids[places]).all()


def top_k(vocabulary, positions=1000, k=32):
    generator = np.random.default_rng(0)
    ids = np.array([generator.choice(vocabulary, k, replace=False) for _ in range(positions)], dtype=np.int32)
    logp = np.log(generator.dirichlet(np.ones(k + 1) * 0.1, positions).clip(1e-12)).astype(np.float32)
    return SparseArrays(ids, logp[:, :-1], logp[:, -1], np.ones(positions, dtype=bool))


@pytest.mark.parametrize("vocabulary", VOCABULARIES[1:])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_top_k_comes_back_as_its_format_holds_it(vocabulary, dtype):
    found, packing = top_k(vocabulary, 50), TopKPacking(vocabulary, dtype)
    places = np.array([49, 3, 3, 0])
    back = packing.unpack(packing.pack(found), places)
    assert (back.ids_PK == found.ids_PK[places]).all()
    assert (back.logp_PK == found.logp_PK[places].astype(dtype)).all()
    assert (back.tail_logp_P == found.tail_logp_P[places].astype(dtype)).all()
    assert back.known_P.all()


@pytest.mark.parametrize(("vocabulary", "bytes_a_position"), [(49_152, 130), (128_256, 134), (151_936, 138), (262_144, 138)])
def test_the_32_likeliest_tokens_take_less_than_150_bytes(vocabulary, bytes_a_position):
    packed = TopKPacking(vocabulary, "float16").pack(top_k(vocabulary))
    assert sum(array.nbytes for array in packed.values()) == 1000 * bytes_a_position


def test_draws_come_back_exactly_and_are_filled_up_to_the_longest_of_those_asked_for():
    ids = np.array([[70_000, 5, 9], [3, -1, -1], [99_999, 1, -1]], dtype=np.int32)
    times = np.array([[253, 1, 1], [255, 0, 0], [200, 55, 0]])
    logp = np.where(ids >= 0, np.log(np.maximum(times, 1) / 255), 0).astype(np.float32)
    found = SparseArrays(ids, logp, np.full(3, -np.inf, np.float32), np.ones(3, dtype=bool))
    packing = SampledPacking(100_000, 255)
    back = packing.unpack(packing.pack(found), np.array([2, 1]))
    assert back.ids_PK.tolist() == [[99_999, 1], [3, -1]]
    assert np.allclose(np.exp(back.logp_PK[back.ids_PK >= 0]) * 255, [200, 55, 255], rtol=1e-6)
    assert np.isneginf(back.tail_logp_P).all()


def test_bits_above_sixteen_never_cross_a_byte():
    assert [high_bits(vocabulary) for vocabulary in VOCABULARIES] == [0, 0, 1, 1, 2, 2, 4, 8]

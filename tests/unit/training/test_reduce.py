"""What is kept of a distribution: exact where all of it is, true sums where some is, right on average where it is drawn."""

import numpy as np
import pytest
import torch

from potstill.training.distributions import Dense, Sparse
from potstill.training.losses import DIVERGENCES, cross_entropy, forward_kl
from potstill.training.targets.reduce import Sampled, TopK, join


def logits(positions=20, vocabulary=200, seed=0):
    return torch.randn(positions, vocabulary, generator=torch.Generator().manual_seed(seed)) * 3


def as_distribution(found) -> Sparse:
    return Sparse(torch.from_numpy(found.ids_PK).long(), torch.from_numpy(found.logp_PK), torch.from_numpy(found.tail_logp_P))


def uniforms(positions, seed=0):
    return np.random.default_rng(seed).random(positions)


@pytest.mark.parametrize("divergence", DIVERGENCES.values(), ids=DIVERGENCES)
def test_all_tokens_kept_are_the_whole_distribution(divergence):
    teacher, student = logits(), logits(seed=1)
    teacher[:, 7] = -torch.inf
    kept = as_distribution(TopK(10**6)(teacher, uniforms(20)))
    for ours, whole in zip(kept.pull(student, divergence), Dense(teacher).pull(student, divergence), strict=True):
        torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-5)


def test_what_is_kept_and_the_rest_are_true_probabilities():
    found, p = TopK(8)(logits(), uniforms(20)), logits().double().softmax(dim=-1)
    expected = p.gather(1, torch.from_numpy(found.ids_PK).long())
    assert (expected.min(dim=1).values >= p.scatter(1, torch.from_numpy(found.ids_PK).long(), 0).amax(dim=1)).all()
    np.testing.assert_allclose(np.exp(found.logp_PK), expected, rtol=1e-5)
    np.testing.assert_allclose(np.exp(found.tail_logp_P), 1 - expected.sum(dim=1), rtol=1e-4)


def test_draws_count_a_token_so_often_as_its_share_says_but_for_one():
    samples, p = 30, logits().double().softmax(dim=-1).numpy()
    found = Sampled(samples)(logits(), uniforms(20))
    times = np.zeros_like(p)
    rows, columns = np.nonzero(found.ids_PK >= 0)
    times[rows, found.ids_PK[rows, columns]] = np.exp(found.logp_PK[rows, columns]) * samples
    assert np.allclose(times, np.rint(times), atol=1e-4)
    assert np.allclose(times.sum(axis=1), samples, atol=1e-3)
    assert (np.abs(times - samples * p) < 1 + 1e-4).all()


def test_the_mean_of_many_drawn_gradients_is_the_dense_one_and_its_error_falls_as_one_over_the_root_of_their_number():
    teacher, student = logits(4), logits(4, seed=1)
    _, exact = Dense(teacher).pull(student, cross_entropy)

    def error(count, seed):
        total = torch.zeros_like(exact)
        for turn in range(count):
            drawn = as_distribution(Sampled(12)(teacher, uniforms(4, seed=(seed, turn))))
            total += drawn.pull(student, cross_entropy)[1]
        return float((total / count - exact).norm())

    few, many = (np.mean([error(count, seed) for seed in range(4)]) for count in (8, 512))
    assert 5 < few / many < 13, "an estimate that is right on average comes eight times as near with 64 times as many"
    assert many < 0.03 * float(exact.norm())


def test_forward_kl_of_draws_has_the_gradient_of_their_cross_entropy():
    drawn, student = as_distribution(Sampled(12)(logits(), uniforms(20))), logits(seed=1)
    torch.testing.assert_close(drawn.pull(student, forward_kl)[1], drawn.pull(student, cross_entropy)[1])


def test_targets_of_different_widths_are_joined_without_a_token_more():
    one, other = Sampled(3)(logits(2), uniforms(2)), Sampled(40)(logits(3, seed=2), uniforms(3))
    joined = join([one, other])
    assert joined.ids_PK.shape[0] == 5
    assert (joined.ids_PK >= 0).sum() == (one.ids_PK >= 0).sum() + (other.ids_PK >= 0).sum()
    assert np.allclose(np.exp(joined.logp_PK).sum(axis=1, where=joined.ids_PK >= 0), 1, atol=1e-5)

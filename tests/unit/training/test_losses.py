"""Losses equal their formulas in float64, and so do their slopes."""

from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from potstill.training.losses import (
    DIVERGENCES,
    build_divergence,
    cross_entropy,
    divergence_of_logits,
    forward_kl,
    jensen_shannon,
    log_probabilities,
    logit_gradient,
    reverse_kl,
    skewed_forward_kl,
    skewed_reverse_kl,
    total_variation,
)


def kl(p, q):
    return (p * (p / q).log()).sum()


FORMULAS = {
    "cross_entropy": (cross_entropy, lambda p, q: -(p * q.log()).sum()),
    "forward_kl": (forward_kl, kl),
    "reverse_kl": (reverse_kl, lambda p, q: kl(q, p)),
    "jensen_shannon": (jensen_shannon, lambda p, q: 0.5 * kl(p, (p + q) / 2) + 0.5 * kl(q, (p + q) / 2)),
    "jensen_shannon 0.2": (
        partial(jensen_shannon, weight=0.2),
        lambda p, q: 0.2 * kl(p, 0.2 * p + 0.8 * q) + 0.8 * kl(q, 0.2 * p + 0.8 * q),
    ),
    "skewed_forward_kl": (skewed_forward_kl, lambda p, q: kl(p, 0.1 * p + 0.9 * q)),
    "skewed_reverse_kl": (skewed_reverse_kl, lambda p, q: kl(q, 0.1 * q + 0.9 * p)),
    "skewed_forward_kl 0": (partial(skewed_forward_kl, skew=0.0), kl),
    "skewed_reverse_kl 0": (partial(skewed_reverse_kl, skew=0.0), lambda p, q: kl(q, p)),
    "total_variation": (total_variation, lambda p, q: 0.5 * (p - q).abs().sum()),
}
ALL = pytest.mark.parametrize("name", FORMULAS)
PROPER = [name for name in FORMULAS if name != "cross_entropy"]


def logits(seed, n=7, v=11, scale=3.0):
    return scale * torch.randn(n, v, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@ALL
@pytest.mark.parametrize("temperatures", [(0.5, None), (1.0, None), (2.0, None), (2.0, 1.0)])
def test_a_loss_is_its_formula(name, temperatures):
    loss, formula = FORMULAS[name]
    student, teacher = logits(0), logits(1)
    at, teacher_at = temperatures
    p, q = torch.softmax(teacher / (teacher_at or at), dim=-1), torch.softmax(student / at, dim=-1)
    found = divergence_of_logits(loss, student, teacher, temperature=at, teacher_temperature=teacher_at)
    torch.testing.assert_close(found, formula(p, q))


@ALL
def test_the_slope_through_the_softmax_is_the_gradient_that_autograd_finds(name):
    loss, _ = FORMULAS[name]
    student, teacher = logits(0).requires_grad_(), logits(1)
    expected = torch.autograd.grad(divergence_of_logits(loss, student, teacher), student)[0]
    logq = log_probabilities(student.detach())
    slope = loss(logq, log_probabilities(teacher)).slope_NE
    torch.testing.assert_close(logit_gradient(slope, logq.exp()), expected)


@pytest.mark.parametrize("name", PROPER)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_divergence_of_a_distribution_from_itself_is_exactly_zero(name, dtype):
    same = logits(0).to(dtype)
    assert divergence_of_logits(FORMULAS[name][0], same, same.clone()).item() == 0.0


@pytest.mark.parametrize("name", PROPER)
@given(st.integers(0, 2**31), st.integers(0, 2**31), st.floats(0.1, 20.0))
def test_a_divergence_is_never_negative_nor_anything_but_a_number(name, one, other, scale):
    loss, student, teacher = FORMULAS[name][0], logits(one, scale=scale).float(), logits(other, scale=scale).float()
    value, slope = loss(log_probabilities(student), log_probabilities(teacher))
    assert (value >= -1e-5).all()
    assert value.isfinite().all()
    assert slope.isfinite().all()


@pytest.mark.parametrize("name", [*PROPER, "cross_entropy"])
def test_a_token_that_the_teacher_excludes_leaves_numbers(name):
    student, teacher = logits(0), logits(1)
    teacher[:, 4] = -torch.inf
    student[2, 4] = -torch.inf
    student = student.requires_grad_()
    found = divergence_of_logits(FORMULAS[name][0], student, teacher)
    assert found.isfinite()
    gradient = torch.autograd.grad(found, student)[0]
    assert gradient.isfinite().all()
    if name != "total_variation":
        assert (gradient[[0, 1, 3, 4, 5, 6], 4] > 0).all(), "the student is pushed down there"


def test_what_the_teacher_excludes_adds_nothing_to_forward_kl():
    student, teacher = logits(0), logits(1)
    teacher[:, 4] = -torch.inf
    kept = [token for token in range(11) if token != 4]
    p = torch.softmax(teacher[:, kept], dim=-1)
    expected = (p * (p.log() - torch.log_softmax(student, dim=-1)[:, kept])).sum()
    torch.testing.assert_close(divergence_of_logits(forward_kl, student, teacher), expected)


@pytest.mark.parametrize(("weight", "limit"), [(1e-6, forward_kl), (1 - 1e-6, reverse_kl)])
def test_jensen_shannon_tends_to_the_kl_of_its_end(weight, limit):
    student, teacher = logits(0), logits(1)
    found = divergence_of_logits(partial(jensen_shannon, weight=weight), student, teacher) / (weight * (1 - weight))
    torch.testing.assert_close(found, divergence_of_logits(limit, student, teacher), rtol=1e-3, atol=0)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_jensen_shannon_at_its_ends_is_refused(weight):
    with pytest.raises(AssertionError, match="between 0 and 1"):
        jensen_shannon(logits(0), logits(1), weight=weight)


def test_symmetric_jensen_shannon_is_bounded_by_log_two_and_total_variation_by_one():
    student, teacher = logits(0, scale=200.0), logits(1, scale=200.0)
    logq, logp = log_probabilities(student), log_probabilities(teacher)
    assert (jensen_shannon(logq, logp).value_N <= torch.tensor(2.0).log() + 1e-9).all()
    assert (total_variation(logq, logp).value_N <= 1 + 1e-9).all()


def test_cross_entropy_at_one_token_is_its_negative_log_likelihood():
    student, targets = logits(0), torch.tensor([0, 3, 3, 10, 5, 1, 9])
    one_hot = nn.functional.one_hot(targets, 11).double().log()
    found = divergence_of_logits(cross_entropy, student, one_hot)
    torch.testing.assert_close(found, nn.functional.cross_entropy(student, targets, reduction="sum"))
    torch.testing.assert_close(found, divergence_of_logits(forward_kl, student, one_hot))


@ALL
def test_losses_in_sixteen_bits_are_computed_in_float32(name):
    student, teacher = logits(0).bfloat16(), logits(1).bfloat16()
    found = divergence_of_logits(FORMULAS[name][0], student, teacher)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, divergence_of_logits(FORMULAS[name][0], student.float(), teacher.float()))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_each_name_builds_the_loss_of_that_name_with_its_own_knob(name):
    weight, skew = 0.3, 0.2
    knobs = {"jensen_shannon": {"weight": weight}, "skewed_forward_kl": {"skew": skew}, "skewed_reverse_kl": {"skew": skew}}
    expected = partial(DIVERGENCES[name], **knobs.get(name, {}))
    found = build_divergence(name, weight=weight, skew=skew)
    logq, logp = log_probabilities(logits(0)), log_probabilities(logits(1))
    assert torch.equal(found(logq, logp).value_N, expected(logq, logp).value_N)

"""Losses equal their formulas in float64, and so do their gradients."""

import pytest
import torch
from torch import nn

from potstill.training.chunks import chunked_loss
from potstill.training.head import Head
from potstill.training.losses import cross_entropy, forward_kl


def logits(seed, n=7, v=11):
    return 3 * torch.randn(n, v, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient(loss, student):
    student = student.clone().requires_grad_()
    return torch.autograd.grad(loss(student), student)[0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_forward_kl_is_the_sum_of_p_times_log_p_over_q(temperature):
    student, teacher = logits(0), logits(1)
    p, q = (torch.softmax(side / temperature, dim=-1) for side in (teacher, student))
    expected = (p * (p / q).log()).sum()
    torch.testing.assert_close(forward_kl(student, teacher, temperature=temperature), expected)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_gradient_of_forward_kl_is_q_minus_p_over_the_temperature(temperature):
    student, teacher = logits(0), logits(1)
    p, q = (torch.softmax(side / temperature, dim=-1) for side in (teacher, student))
    found = gradient(lambda s: forward_kl(s, teacher, temperature=temperature), student)
    torch.testing.assert_close(found, (q - p) / temperature)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_kl_of_a_distribution_with_itself_is_exactly_zero(dtype):
    same = logits(0).to(dtype)
    assert forward_kl(same, same.clone()).item() == 0.0


def test_forward_kl_is_never_negative_and_infinite_where_the_student_excludes_what_the_teacher_says():
    student, teacher = logits(0), logits(1)
    assert forward_kl(student, teacher) > 0
    student[0, 3] = -torch.inf
    assert forward_kl(student, teacher) == torch.inf


def test_a_token_that_the_teacher_excludes_adds_nothing_and_pushes_the_student_down_there():
    student, teacher = logits(0), logits(1)
    teacher[:, 4] = -torch.inf
    kept = [token for token in range(11) if token != 4]
    p = torch.softmax(teacher[:, kept], dim=-1)
    expected = (p * (p.log() - torch.log_softmax(student, dim=-1)[:, kept])).sum()
    torch.testing.assert_close(forward_kl(student, teacher), expected)
    found = gradient(lambda s: forward_kl(s, teacher), student)
    torch.testing.assert_close(found[:, 4], torch.softmax(student, dim=-1)[:, 4])


def test_cross_entropy_is_the_sum_of_minus_log_q_of_the_target():
    student, targets = logits(0), torch.tensor([0, 3, 3, 10, 5, 1, 9])
    expected = -torch.log_softmax(student, dim=-1)[torch.arange(7), targets].sum()
    torch.testing.assert_close(cross_entropy(student, targets), expected)


def test_cross_entropy_is_forward_kl_to_one_hot_targets():
    student, targets = logits(0), torch.tensor([0, 3, 3, 10, 5, 1, 9])
    one_hot = nn.functional.one_hot(targets, 11).double().log()
    torch.testing.assert_close(forward_kl(student, one_hot), cross_entropy(student, targets))


@pytest.mark.parametrize("loss", [forward_kl, lambda s, t: cross_entropy(s, t.argmax(-1))], ids=["forward_kl", "cross_entropy"])
def test_losses_in_sixteen_bits_are_computed_in_float32(loss):
    student, teacher = logits(0).bfloat16(), logits(1).bfloat16()
    found = loss(student, teacher)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(student.float(), teacher.float()))


def head(bias, cap, frozen=False):
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(11, 4, generator=generator, dtype=torch.float64).requires_grad_(not frozen)
    offset = torch.randn(11, generator=generator, dtype=torch.float64).requires_grad_(not frozen) if bias else None
    return Head(weight, offset, scale=0.7, cap=cap)


@pytest.mark.parametrize("chunk", [1, 3, 7, 100])
@pytest.mark.parametrize(("bias", "cap"), [(False, None), (True, 2.0)])
@pytest.mark.parametrize("kind", ["kl", "cross_entropy"])
def test_chunked_loss_and_its_gradients_equal_dense_autograd(chunk, bias, cap, kind):
    used = head(bias, cap)
    hidden = torch.randn(7, 4, generator=torch.Generator().manual_seed(6), dtype=torch.float64).requires_grad_()
    teacher, targets = logits(1), torch.tensor([0, 3, 3, 10, 5, 1, 9])
    loss, target = (forward_kl, teacher) if kind == "kl" else (cross_entropy, targets)
    inputs = (hidden, *used.parameters)

    dense = 0.3 * loss(used.logits(hidden), target)
    chunked = 0.3 * chunked_loss(hidden, used, target.__getitem__, loss, chunk)

    torch.testing.assert_close(chunked, dense)
    expected = torch.autograd.grad(dense, inputs)
    for found, wanted in zip(torch.autograd.grad(chunked, inputs), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_frozen_head_gets_no_gradient_and_hidden_states_get_theirs():
    used = head(bias=True, cap=None, frozen=True)
    hidden = torch.randn(7, 4, generator=torch.Generator().manual_seed(6), dtype=torch.float64).requires_grad_()
    chunked_loss(hidden, used, logits(1).__getitem__, forward_kl, 3).backward()
    expected = torch.autograd.grad(forward_kl(used.logits(hidden), logits(1)), hidden)[0]
    torch.testing.assert_close(hidden.grad, expected)
    assert used.weight_VD.grad is None


def test_a_loss_without_gradients_is_the_same_number():
    used, hidden = head(bias=True, cap=2.0), torch.randn(7, 4, dtype=torch.float64)
    with torch.no_grad():
        found = chunked_loss(hidden, used, logits(1).__getitem__, forward_kl, 2)
    torch.testing.assert_close(found, chunked_loss(hidden, used, logits(1).__getitem__, forward_kl, 100).detach())


def test_no_more_logits_than_a_chunk_holds_are_ever_made():
    sizes = []

    def loss(student_logits, target):
        sizes.append(student_logits.shape[0])
        return forward_kl(student_logits, target)

    hidden = torch.randn(7, 4, dtype=torch.float64).requires_grad_()
    chunked_loss(hidden, head(False, None), logits(1).__getitem__, loss, 3).backward()
    assert sizes == [3, 3, 1]

"""Losses on what goes on inside two models equal their formulas in float64, and so do their gradients."""

import pytest
import torch
from torch import nn

from potstill.training.losses import attention_kl, attention_mse, hidden_cosine, hidden_mse, relation_kl

LENGTHS = (7, 3, 5)
T = 8


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def maps(seed, positions=6, heads=3):
    """Probabilities of N positions over T keys, of which position n sees the first n + 1."""
    later = torch.arange(T)[None] > torch.arange(positions)[:, None]
    return draw(positions, heads, T, seed=seed), later[:, None]


def softmax(scores, later):
    return scores.masked_fill(later, -torch.inf).softmax(dim=-1)


WEIGHTS = torch.tensor([1.0, 0.5, 2.0, 0.0, 1.0, 3.0], dtype=torch.float64)


def mse(student, teacher):
    return sum(w * ((s - t) ** 2).sum() / len(s) for w, s, t in zip(WEIGHTS, student, teacher, strict=True))


def cosine(student, teacher):
    return (WEIGHTS * (1 - nn.functional.cosine_similarity(student, teacher, dim=-1))).sum()


@pytest.mark.parametrize(("loss", "formula"), [(hidden_mse, mse), (hidden_cosine, cosine)])
def test_a_loss_on_hidden_states_is_its_formula_and_so_is_its_gradient(loss, formula):
    student, teacher = draw(6, 5).requires_grad_(), draw(6, 5, seed=1)
    expected = formula(student, teacher)
    found = loss(student, teacher, WEIGHTS)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, student)[0] for value in (found, expected)))


def test_pkds_distance_of_normalised_states_is_twice_the_cosine_loss():
    student, teacher = draw(6, 5), draw(6, 5, seed=1)
    unit = [found / found.norm(dim=-1, keepdim=True) for found in (student, teacher)]
    torch.testing.assert_close(2 * hidden_cosine(student, teacher), (unit[0] - unit[1]).square().sum())


def test_the_cosine_loss_does_not_see_how_long_a_state_is():
    student, teacher = draw(6, 5), draw(6, 5, seed=1)
    lengths = torch.tensor([0.1, 1.0, 3.0, 1000.0, 7.0, 1e-3], dtype=torch.float64)[:, None]
    torch.testing.assert_close(hidden_cosine(student * lengths, teacher / lengths), hidden_cosine(student, teacher))
    assert hidden_mse(student * lengths, teacher) > hidden_mse(student, teacher)


def test_a_state_of_zeros_leaves_numbers():
    student = torch.zeros(2, 5, dtype=torch.float64, requires_grad=True)
    loss = hidden_cosine(student, draw(2, 5))
    assert loss.isfinite()
    assert torch.autograd.grad(loss, student)[0].isfinite().all()


def squares(q, p):
    return (WEIGHTS[:, None] * ((q - p) ** 2).sum(-1)).sum() / q.shape[1]


def kl(q, p):
    seen = torch.where(p > 0, p * (p.clamp_min(1e-300).log() - q.clamp_min(1e-300).log()), 0.0)
    return (WEIGHTS[:, None] * seen.sum(-1)).sum() / q.shape[1]


@pytest.mark.parametrize(("loss", "formula"), [(attention_mse, squares), (attention_kl, kl)])
def test_a_loss_on_attention_maps_is_its_formula_and_so_is_its_gradient(loss, formula):
    (scores, later), (others, _) = maps(0), maps(1)
    scores.requires_grad_()
    found, expected = (made(softmax(scores, later), softmax(others, later)) for made in (lambda q, p: loss(q, p, WEIGHTS), formula))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, scores, retain_graph=True)[0] for value in (found, expected)))


def test_where_a_student_cannot_look_and_its_teacher_does_leaves_numbers():
    scores, later = maps(0)
    scores.requires_grad_()
    shorter = later | (torch.arange(T) == 0)[None, None]
    shorter[0] = later[0]
    found = attention_kl(softmax(scores, shorter), softmax(draw(6, 3, T, seed=1), later))
    assert found.isfinite()
    assert torch.autograd.grad(found, scores)[0].isfinite().all()


POSITIONS = torch.tensor([row * T + place for row, length in enumerate(LENGTHS) for place in range(row, length)])


def relation_weights():
    return 0.5 + torch.rand(len(POSITIONS), generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def relations_by_hand(student, teacher, weights, heads):
    """Position by position, head by head."""
    total = 0.0
    for weight, position in zip(weights, POSITIONS.tolist(), strict=True):
        row, place = divmod(position, T)
        for head in range(heads):
            logs = []
            for states in (student, teacher):
                width = states.shape[-1] // heads
                part = states[row, : place + 1, head * width : (head + 1) * width]
                logs.append((part @ part[place] / width**0.5).log_softmax(dim=-1))
            total = total + weight / heads * (logs[1].exp() * (logs[1] - logs[0])).sum()
    return total


@pytest.mark.parametrize("heads", [1, 2, 6])
@pytest.mark.parametrize("block", [None, 1, 3])
def test_relations_of_models_of_different_widths_are_their_formula_and_so_is_their_gradient(heads, block):
    student, teacher, weights = draw(3, T, 6).requires_grad_(), draw(3, T, 12, seed=1), relation_weights()
    expected = relations_by_hand(student, teacher, weights, heads)
    found = relation_kl(student, teacher, POSITIONS, weights, heads=heads, block=block)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(3.0 * value, student)[0] for value in (found, expected)))


def test_relations_do_not_change_when_the_basis_of_a_head_is_turned():
    student, teacher = draw(3, T, 6), draw(3, T, 12, seed=1)
    turned = student.clone()
    for head in range(2):
        turn = torch.linalg.qr(draw(3, 3, seed=7 + head)).Q
        turned[..., 3 * head : 3 * head + 3] = student[..., 3 * head : 3 * head + 3] @ turn
    found, expected = (relation_kl(states, teacher, POSITIONS, heads=2) for states in (turned, student))
    torch.testing.assert_close(found, expected)
    assert relation_kl(student.flip(-1).roll(1, -1), teacher, POSITIONS, heads=2) != expected


def test_what_comes_later_and_what_pads_a_row_takes_no_part_in_relations():
    student, teacher = draw(3, T, 6).requires_grad_(), draw(3, T, 6, seed=1)
    early = torch.tensor([2, T + 1])
    found = relation_kl(student, teacher, early, heads=2)
    gradient = torch.autograd.grad(found, student)[0]
    changed = student.detach().clone()
    changed[0, 3:], changed[1, 2:], changed[2] = 9.0, -9.0, 5.0
    assert torch.equal(relation_kl(changed, teacher, early, heads=2), found.detach())
    assert gradient[0, :3].ne(0).any()
    assert (gradient[0, 3:] == 0).all()
    assert (gradient[1, 2:] == 0).all()
    assert (gradient[2] == 0).all()


def of_relations(student, teacher, weights=None):
    return relation_kl(student, teacher, POSITIONS, weights, heads=2)


SAME = {
    "hidden_mse": (hidden_mse, lambda: draw(6, 5)),
    "hidden_cosine": (hidden_cosine, lambda: draw(6, 5)),
    "attention_mse": (attention_mse, lambda: softmax(*maps(0))),
    "attention_kl": (attention_kl, lambda: softmax(*maps(0))),
    "relation_kl": (of_relations, lambda: draw(3, T, 6)),
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_loss_on_equal_insides_is_exactly_zero_and_so_is_its_pull(name, dtype):
    loss, make = SAME[name]
    student = make().to(dtype).requires_grad_()
    found = loss(student, student.detach().clone())
    assert found.item() == 0.0
    if name != "attention_kl":  # whose zero lies behind the softmax
        assert (torch.autograd.grad(found, student)[0] == 0).all()


@pytest.mark.parametrize("name", SAME)
def test_losses_in_sixteen_bits_are_computed_in_float32(name):
    loss, make = SAME[name]
    student = make().bfloat16()
    teacher = (make().flip(0) if "attention" not in name else softmax(maps(1)[0], maps(1)[1])).bfloat16()
    found = loss(student, teacher)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, loss(student.float(), teacher.float()))


@pytest.mark.parametrize("name", SAME)
def test_a_loss_is_a_sum_over_positions(name):
    loss, make = SAME[name]
    student, teacher = make(), make().flip(0) if "attention" not in name else softmax(*maps(1))
    positions = len(POSITIONS) if name == "relation_kl" else 6
    each = [loss(student, teacher, torch.eye(positions, dtype=torch.float64)[n]) for n in range(positions)]
    torch.testing.assert_close(sum(each), loss(student, teacher))
    assert all(value >= 0 for value in each)

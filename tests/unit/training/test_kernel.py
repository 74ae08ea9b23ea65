"""The kernel's value and gradients equal dense autograd's in float64, for every loss and every kind of target."""

import pytest
import torch
from test_losses import FORMULAS, logits
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from potstill.training.distributions import Dense, Sparse, mixture, one_hot
from potstill.training.head import Head
from potstill.training.kernel import LOGIT_BYTES, TILE_TOKENS, Pull, chunk_size, pulled_loss
from potstill.training.losses import FLOOR, cross_entropy, divergence_of_logits, forward_kl, log_probabilities

N, V, D = 7, 11, 4


def head(bias=True, cap=None, scale=0.7, frozen=False):
    generator = torch.Generator().manual_seed(5)
    weight = torch.randn(V, D, generator=generator, dtype=torch.float64).requires_grad_(not frozen)
    offset = torch.randn(V, generator=generator, dtype=torch.float64).requires_grad_(not frozen) if bias else None
    return Head(weight, offset, scale=scale, cap=cap)


def hidden():
    return torch.randn(N, D, generator=torch.Generator().manual_seed(6), dtype=torch.float64).requires_grad_()


def coarse(logq_NV, sparse):
    """log q of the events of sparse targets, by plain autograd: the tokens that are named, and the rest."""
    columns = []
    for row in range(len(logq_NV)):
        named = [int(token) for token in sparse.ids_nK[row] if token >= 0]
        rest = [token for token in range(V) if token not in named]
        known = [logq_NV[row, token] if token >= 0 else torch.tensor(FLOOR, dtype=torch.float64) for token in sparse.ids_nK[row].tolist()]
        tail = torch.logsumexp(logq_NV[row, rest], dim=0) if rest else torch.tensor(FLOOR, dtype=torch.float64)
        columns.append(torch.stack([*known, tail]))
    return torch.stack(columns)


def events(sparse):
    logp = sparse.logp_nK.masked_fill(sparse.ids_nK < 0, FLOOR)
    tail = torch.full((len(logp),), FLOOR, dtype=logp.dtype) if sparse.tail_logp_n is None else sparse.tail_logp_n
    return torch.cat([logp, tail[:, None]], dim=1)


def top(k):
    logp, ids = log_probabilities(logits(1)).topk(k, dim=-1)
    rest = -torch.expm1(torch.logsumexp(logp, dim=-1))
    return Sparse(ids, logp, rest.clamp_min(1e-300).log() if k < V else None)


def ragged():
    """Two to four tokens a position, the last of them with no tail at all."""
    found = top(4)
    ids, logp = found.ids_nK.clone(), found.logp_nK.clone()
    ids[1, 3] = ids[2, 2] = ids[2, 3] = -1
    logp[1, 3] = 7.0  # says nothing
    ids[2, 3] = -1
    return Sparse(ids, logp, found.tail_logp_n)


TARGETS = {
    "dense": lambda: Dense(logits(1)),
    "mixture": lambda: mixture([(0.3, Dense(logits(1))), (0.9, Dense(logits(2)))]),
    "one hot": lambda: one_hot(torch.tensor([0, 3, 3, 10, 5, 1, 9])),
    "top 3": lambda: top(3),
    "top 3, no tail": lambda: Sparse(top(3).ids_nK, top(3).logp_nK - torch.logsumexp(top(3).logp_nK, dim=1, keepdim=True)),
    "ragged": ragged,
}


def oracle(name, student_logits, target):
    loss = FORMULAS[name][0]
    if isinstance(target, Dense):
        return divergence_of_logits(loss, student_logits, target.logits_nV)
    return loss(coarse(torch.log_softmax(student_logits, dim=-1), target), events(target).double()).value_N.sum()


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("chunk", [3, 100])
def test_value_and_gradients_equal_dense_autograd(name, kind, chunk):
    used, states, target = head(), hidden(), TARGETS[kind]()
    inputs = (states, *used.parameters)
    expected = 0.3 * oracle(name, used.logits(states), target)
    found = 0.3 * pulled_loss(states, used, [Pull(target.rows, FORMULAS[name][0])], chunk=chunk)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["mixture", "one hot", "top 3", "ragged"])
@pytest.mark.parametrize("name", FORMULAS)
def test_a_temperature_divides_the_students_logits_in_every_loss_and_every_kind_of_target(name, kind):
    used, states, target = head(), hidden(), TARGETS[kind]()
    inputs = (states, *used.parameters)
    expected = oracle(name, used.logits(states) / 2.5, target)
    found = pulled_loss(states, used, [Pull(target.rows, FORMULAS[name][0], temperature=2.5)], chunk=3)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)


class CountedProducts(TorchDispatchMode):
    """Counts products of matrices."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("frozen", "a_chunk"), [(False, 3), (True, 2)])
def test_a_chunk_takes_three_products_with_the_head_and_two_where_it_is_frozen_and_the_backward_pass_none(frozen, a_chunk):
    used, states = head(bias=False, frozen=frozen), hidden()
    with CountedProducts() as forward:
        loss = pulled_loss(states, used, [Pull(Dense(logits(1)).rows, forward_kl)], chunk=3)
    with CountedProducts() as backward:
        loss.backward()
    assert (forward.count, backward.count) == (3 * a_chunk, 0)


@pytest.mark.parametrize("name", FORMULAS)
def test_all_tokens_named_is_the_dense_loss(name):
    used, states = head(), hidden()
    sparse = pulled_loss(states, used, [Pull(top(V).rows, FORMULAS[name][0])])
    dense = pulled_loss(states, used, [Pull(Dense(logits(1)).rows, FORMULAS[name][0])])
    torch.testing.assert_close(sparse, dense, rtol=1e-6, atol=1e-9)
    for one, other in zip(torch.autograd.grad(sparse, states), torch.autograd.grad(dense, states), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("chunk", [1, 3, 7])
@pytest.mark.parametrize(("bias", "cap", "scale"), [(False, None, 1.0), (True, 2.0, 0.7), (True, None, 1.0)])
def test_heads_with_bias_cap_and_scale_get_their_gradients(chunk, bias, cap, scale):
    used, states = head(bias, cap, scale), hidden()
    inputs = (states, *used.parameters)
    expected = divergence_of_logits(forward_kl, used.logits(states), logits(1), temperature=2.0, teacher_temperature=1.0)
    found = pulled_loss(states, used, [Pull(Dense(logits(1)).rows, forward_kl, temperature=2.0)], chunk=chunk)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_several_pulls_add_up_with_their_weights_and_their_positions_weights():
    used, states = head(), hidden()
    labels = torch.tensor([0, 3, 3, 10, 5, 1, 9])
    rows = torch.tensor([1.0, 0.0, 2.0, 1.0, 0.5, 1.0, 1.0], dtype=torch.float64)
    pulls = [Pull(Dense(logits(1)).rows, forward_kl, 0.7, 2.0, rows), Pull(one_hot(labels).rows, cross_entropy, 0.4)]
    found = pulled_loss(states, used, pulls, chunk=2)
    scores = used.logits(states)
    each = [
        divergence_of_logits(forward_kl, scores[i : i + 1], logits(1)[i : i + 1], temperature=2.0, teacher_temperature=1.0)
        for i in range(N)
    ]
    expected = 0.7 * (torch.stack(each) * rows).sum() + 0.4 * nn.functional.cross_entropy(scores, labels, reduction="sum")
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, (states, used.weight_VD)), torch.autograd.grad(expected, (states, used.weight_VD)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_a_mixture_of_teachers_is_the_mixture_of_their_probabilities():
    found = torch.softmax(TARGETS["mixture"]().logits_nV, dim=-1)
    torch.testing.assert_close(found, 0.25 * torch.softmax(logits(1), dim=-1) + 0.75 * torch.softmax(logits(2), dim=-1))


def test_a_frozen_head_gets_no_gradient_and_hidden_states_get_theirs():
    used, states = head(frozen=True), hidden()
    pulled_loss(states, used, [Pull(Dense(logits(1)).rows, forward_kl)], chunk=3).backward()
    expected = torch.autograd.grad(divergence_of_logits(forward_kl, used.logits(states), logits(1)), states)[0]
    torch.testing.assert_close(states.grad, expected)
    assert used.weight_VD.grad is None


def test_a_loss_without_gradients_is_the_same_number():
    used, states = head(cap=2.0), hidden()
    pulls = [Pull(Dense(logits(1)).rows, forward_kl)]
    with torch.no_grad():
        found = pulled_loss(states, used, pulls, chunk=2)
    torch.testing.assert_close(found, pulled_loss(states, used, pulls).detach())


def test_an_unbiased_estimate_of_the_teacher_gives_an_unbiased_gradient():
    """Over all tokens that could be drawn, weighted by how likely each draw is, gradients average to the dense one."""
    used, states = head(), hidden()
    p = torch.softmax(logits(1), dim=-1)
    dense = torch.autograd.grad(pulled_loss(states, used, [Pull(Dense(logits(1)).rows, cross_entropy)]), states)[0]
    average = torch.zeros_like(dense)
    for token in range(V):
        drawn = one_hot(torch.full((N,), token))
        found = torch.autograd.grad(pulled_loss(states, used, [Pull(drawn.rows, cross_entropy, rows_N=p[:, token])]), states)[0]
        average += found
    torch.testing.assert_close(average, dense)


@pytest.mark.parametrize("name", FORMULAS)
def test_positions_without_a_target_have_no_loss_and_no_gradient(name):
    used, states, known = head(), hidden(), torch.tensor([True, False, True, True, False, True, True])
    found = ragged()
    found.ids_nK[1] = -1
    partly = Sparse(found.ids_nK, found.logp_nK, found.tail_logp_n, known)
    loss = pulled_loss(states, used, [Pull(partly.rows, FORMULAS[name][0])], chunk=2)
    alone = pulled_loss(
        states[known],
        used,
        [Pull(Sparse(*(part[known] for part in (partly.ids_nK, partly.logp_nK, partly.tail_logp_n))).rows, FORMULAS[name][0])],
    )
    torch.testing.assert_close(loss, alone)
    gradient = torch.autograd.grad(loss, states)[0]
    assert (gradient[~known] == 0).all()
    torch.testing.assert_close(gradient, torch.autograd.grad(alone, states)[0])


def test_no_more_logits_than_a_chunk_holds_are_ever_made():
    sizes = []

    def target(part):
        sizes.append(len(range(*part.indices(N))))
        return Dense(logits(1)[part])

    pulled_loss(hidden(), head(), [Pull(target, forward_kl)], chunk=3).backward()
    assert sizes == [2, 2, 3]


@pytest.mark.parametrize(("tokens", "width"), [(300, 32), (49_152, 576), (151_936, 896), (10**9, 4)])
def test_a_chunks_logits_take_no_more_than_they_may_or_a_quarter_of_the_head(tokens, width):
    positions = chunk_size(Head(torch.empty(tokens, width, device="meta")))
    most = max(LOGIT_BYTES, 4 * tokens * width // 4)
    assert positions == 1 or 4 * tokens * positions <= most
    assert 4 * tokens * (positions + 1) > most


def test_no_positions_have_no_loss_and_no_gradient():
    used = head()
    states = torch.zeros(0, D, dtype=torch.float64, requires_grad=True)
    loss = pulled_loss(states, used, [Pull(one_hot(torch.zeros(0, dtype=torch.long)).rows, cross_entropy)])
    loss.backward()
    assert loss.item() == 0.0
    assert states.grad.shape == (0, D)
    assert all(torch.equal(parameter.grad, torch.zeros_like(parameter)) for parameter in used.parameters)


def test_no_positions_have_no_loss_without_gradients_either():
    with torch.no_grad():
        assert pulled_loss(hidden()[:0], head(), [Pull(one_hot(torch.zeros(0, dtype=torch.long)).rows, cross_entropy)]) == 0.0


def test_a_second_backward_pass_is_refused_as_its_gradients_were_given_away():
    loss = pulled_loss(hidden(), head(), [Pull(Dense(logits(1)).rows, forward_kl)])
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backward once"):
        loss.backward()


def test_products_in_sixteen_bits_are_summed_over_chunks_and_tiles_in_float32():
    tokens = 2 * TILE_TOKENS + 5
    generator = torch.Generator().manual_seed(8)
    weight = torch.randn(tokens, D, generator=generator).requires_grad_()
    pulls = [Pull(one_hot(torch.arange(N) * (tokens // N)).rows, cross_entropy)]
    exact = torch.autograd.grad(pulled_loss(hidden().float(), Head(weight), pulls), weight)[0]
    with torch.autocast("cpu", torch.bfloat16):
        loss = pulled_loss(hidden().float(), Head(weight), pulls, chunk=2)
    found = torch.autograd.grad(loss, weight)[0]
    torch.testing.assert_close(found, exact, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("name", FORMULAS)
def test_autocast_multiplies_in_sixteen_bits_and_gives_gradients_in_the_parameters_own_dtype(name):
    used = Head(head().weight_VD.detach().float().requires_grad_())
    states = hidden().detach().float().requires_grad_()
    pulls = [Pull(Dense(logits(1).float()).rows, FORMULAS[name][0])]
    exact = torch.autograd.grad(pulled_loss(states, used, pulls), (states, used.weight_VD))
    with torch.autocast("cpu", torch.bfloat16):
        loss = pulled_loss(states, used, pulls)
    found = torch.autograd.grad(loss, (states, used.weight_VD))
    for ours, theirs in zip(found, exact, strict=True):
        assert ours.dtype == torch.float32
        assert not torch.equal(ours, theirs), "products were in sixteen bits"
        torch.testing.assert_close(ours, theirs, rtol=0.1, atol=0.1)

"""Where definitions agree, values and gradients are those of the losses that TRL and Liger-Kernel ship.

`make test` puts the two where nothing else finds them: transformers would import `datasets`, which TRL needs, into every training.
"""

import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from potstill.training.distributions import Dense
from potstill.training.head import Head
from potstill.training.kernel import Pull, pulled_loss
from potstill.training.losses import forward_kl, jensen_shannon, reverse_kl

N, V, D, E = 9, 33, 6, 5
BETAS = {0.0: forward_kl, 0.3: partial(jensen_shannon, weight=0.3), 0.5: jensen_shannon, 1.0: reverse_kl}


@pytest.fixture(scope="module", autouse=True)
def peers():
    """They can be imported here, and no longer afterwards."""
    folder = str(Path(sys.prefix, "peers"))
    sys.path.append(folder)
    yield
    sys.path.remove(folder)


def arrays():
    generator = torch.Generator().manual_seed(3)
    sizes = ((N, D), (V, D), (N, E), (V, E))
    hidden, weight, teacher_hidden, teacher_weight = (torch.randn(*size, generator=generator) for size in sizes)
    return hidden.requires_grad_(), weight.requires_grad_(), teacher_hidden, teacher_weight


def ours(divergence, given, temperature=1.0):
    hidden, weight, teacher_hidden, teacher_weight = given
    teacher = Head(teacher_weight)
    pull = Pull(lambda part: Dense(teacher.logits(teacher_hidden[part]) / temperature), divergence, temperature=temperature)
    return pulled_loss(hidden, Head(weight), [pull], chunk=4)


def compare(found, expected, inputs):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("beta", BETAS)
def test_divergences_are_those_of_trl(beta, temperature):
    theirs = pytest.importorskip("trl.kernels.chunked_divergence").ChunkedDivergenceFunction
    given = hidden, weight, teacher_hidden, teacher_weight = arrays()
    expected = theirs.apply(hidden, weight, None, teacher_hidden, teacher_weight, None, beta, temperature)[0].sum()
    compare(ours(BETAS[beta], given, temperature), expected, given[:2])


@pytest.mark.parametrize("beta", BETAS)
def test_divergences_are_those_of_liger(beta):
    theirs = pytest.importorskip("liger_kernel.chunked_loss").LigerFusedLinearJSDLoss
    given = hidden, weight, teacher_hidden, teacher_weight = arrays()
    loss = theirs(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=beta, compiled=False, chunk_size=4)
    # Theirs is the mean over positions.
    expected = N * loss(hidden, weight, teacher_hidden, teacher_weight, torch.zeros(N, dtype=torch.long))
    compare(ours(BETAS[beta], given), expected, given[:2])

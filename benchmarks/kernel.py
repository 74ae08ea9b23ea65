"""The loss from hidden states on: Potstill's kernel beside TRL's chunked divergence and Liger's chunked loss, float32, on a CPU.

    PYTHONPATH=src PEERS/bin/python benchmarks/kernel.py [--vocabulary 49152] [--width 576] [--positions 1024] [--beta 0.0] [--rounds 3]
    PYTHONPATH=src PEERS/bin/python benchmarks/kernel.py --vocabulary 151936 --width 896
    PYTHONPATH=src PEERS/bin/python benchmarks/kernel.py --growth [--positions 1024 4096 16384]

How PEERS is made stands in kd_step.py. Forward and backward pass of the mean divergence between two heads' distributions, teacher's
logits included; forward KL at `--beta` 0, reverse KL at 1, Jensen-Shannon between. First values and gradients are held against each
other; then each side is timed in a process of its own, warm. `potstill_mkl` is the kernel without what the trainer does for the whole
process (oneDNN's products, freed memory kept). Several `--positions` are measured one after the other. `--growth` prints what the kernel
holds at its peak beside hidden states, heads and their gradients, for more and more positions. 151,936 tokens of width 896 are those of
Qwen2.5-0.5B.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from potstill.models.products import fast_products
from potstill.training.distributions import Dense
from potstill.training.head import Head
from potstill.training.kernel import Pull, pulled_loss
from potstill.training.losses import Divergence, forward_kl, jensen_shannon, reverse_kl
from potstill.training.machine import keep_freed_memory
from steps import Seconds, by_loop, forget_peak_memory, paired, peak_memory_mb, run_worker, serve, show

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Mean divergence of student's hidden states and head, and teacher's."""


def divergence_of(beta: float) -> Divergence:
    return {0.0: forward_kl, 1.0: reverse_kl}.get(beta, partial(jensen_shannon, weight=beta))


def potstill(beta: float) -> Loss:
    def loss(hidden_ND: Tensor, weight_VD: Tensor, teacher_ND: Tensor, teacher_VD: Tensor) -> Tensor:
        teacher = Head(teacher_VD)
        pull = Pull(lambda part: Dense(teacher.logits(teacher_ND[part])), divergence_of(beta))
        return pulled_loss(hidden_ND, Head(weight_VD), [pull]) / len(hidden_ND)

    return loss


def trl(beta: float) -> Loss:
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    def loss(hidden_ND: Tensor, weight_VD: Tensor, teacher_ND: Tensor, teacher_VD: Tensor) -> Tensor:
        return ChunkedDivergenceFunction.apply(hidden_ND, weight_VD, None, teacher_ND, teacher_VD, None, beta)[0].mean()

    return loss


def liger(beta: float) -> Loss:
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    theirs = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=beta, compiled=False)

    def loss(hidden_ND: Tensor, weight_VD: Tensor, teacher_ND: Tensor, teacher_VD: Tensor) -> Tensor:
        return theirs(hidden_ND, weight_VD, teacher_ND, teacher_VD, torch.zeros(len(hidden_ND), dtype=torch.long))

    return loss


SIDES = {"potstill": potstill, "potstill_mkl": potstill, "trl": trl, "liger": liger}


def arrays(positions: int, vocabulary: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden_ND, teacher_ND = (torch.randn(positions, width, generator=generator) for _ in range(2))
    weight_VD, teacher_VD = (torch.randn(vocabulary, width, generator=generator).mul_(0.1) for _ in range(2))
    return hidden_ND.requires_grad_(), weight_VD.requires_grad_(), teacher_ND, teacher_VD


def side(name: str, chosen: argparse.Namespace, positions: int) -> Seconds:
    loss, given = SIDES[name](chosen.beta), arrays(positions, chosen.vocabulary, chosen.width)
    tuned = name == "potstill"
    if tuned:
        keep_freed_memory()

    def step() -> None:
        given[0].grad = given[1].grad = None
        loss(*given).backward()

    def tuned_step() -> None:
        with fast_products():
            step()

    return by_loop(tuned_step if tuned else step)


def hold_against_each_other(beta: float, vocabulary: int, width: int) -> None:
    """All sides' values and gradients agree to float32's precision, or the benchmark ends here."""
    given = arrays(48, vocabulary, width)
    found = {}
    for name in ("potstill", "trl", "liger"):
        value = SIDES[name](beta)(*given)
        found[name] = (value.detach(), *torch.autograd.grad(value, given[:2]))
    for name in ("trl", "liger"):
        for ours, theirs in zip(found["potstill"], found[name], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=1e-4 * float(theirs.abs().max()))


def held_beside_gradients(chosen: argparse.Namespace, positions: int) -> float:
    """MB at the peak of one loss and its gradients, less what stood before and the gradients themselves."""
    loss, given = potstill(chosen.beta), arrays(positions, chosen.vocabulary, chosen.width)
    potstill(chosen.beta)(*arrays(64, chosen.vocabulary, chosen.width)).backward()
    forget_peak_memory()
    before = peak_memory_mb()
    loss(*given).backward()
    return peak_memory_mb() - before - 4e-6 * (given[0].numel() + given[1].numel())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vocabulary", type=int, default=49_152)
    parser.add_argument("--positions", type=int, nargs="+")
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--beta", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    sizes = {"vocabulary": chosen.vocabulary, "width": chosen.width, "beta": chosen.beta}
    passed_on = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    if chosen.worker == "growth":
        print(held_beside_gradients(chosen, *chosen.positions))
    elif chosen.worker:
        serve(side(chosen.worker, chosen, *chosen.positions))
    elif chosen.growth:
        counts = chosen.positions or [1024, 4096, 16_384]
        held = {count: round(run_worker(sys.argv[0], "growth", [*passed_on, "--positions", str(count)])) for count in counts}
        show({**sizes, "mb_beside_hidden_states_and_gradients_by_positions": held})
    else:
        hold_against_each_other(chosen.beta, chosen.vocabulary, chosen.width)
        for count in chosen.positions or [1024]:
            arguments = [*passed_on, "--positions", str(count)]
            found = paired(sys.argv[0], list(SIDES), arguments, tokens=count, steps=1, rounds=chosen.rounds)
            show({**sizes, "positions": count, "sides": found})


if __name__ == "__main__":
    main()

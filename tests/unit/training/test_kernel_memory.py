"""What the kernel holds beside hidden states, heads and gradients: by torch's own account of every array, not by the process's memory."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

import torch
from torch.profiler import ProfilerActivity, profile

from potstill.training.distributions import Dense
from potstill.training.head import Head
from potstill.training.kernel import BLOCK_BYTES, Pull, pulled_loss
from potstill.training.losses import forward_kl

V, D, CHUNK = 2000, 512, 512
CHUNK_BYTES, WEIGHT_BYTES = 4 * CHUNK * V, 4 * V * D


def most_held(work: Callable[[], object]) -> int:
    """The most bytes at once that the work took and had not given back."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        work()
    changes = [(event.start_ns(), event.nbytes()) for event in watched.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(size for _, size in sorted(changes)))


def a_step(positions: int, *, frozen: bool = False) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(0)
    hidden_ND, teacher_ND = (torch.randn(positions, D, generator=generator) for _ in range(2))
    weight_VD, teacher_VD = (torch.randn(V, D, generator=generator) for _ in range(2))
    head, teacher = Head(weight_VD.requires_grad_(not frozen)), Head(teacher_VD)
    pull = Pull(lambda part: Dense(teacher.logits(teacher_ND[part])), forward_kl)
    hidden_ND.requires_grad_()
    return lambda: pulled_loss(hidden_ND, head, [pull], chunk=CHUNK).backward()


def beside_gradients(positions: int) -> int:
    return most_held(a_step(positions)) - WEIGHT_BYTES - 4 * positions * D


def test_memory_beside_hidden_states_and_gradients_is_flat_in_the_number_of_positions():
    # All that grows is the list of the chunks' values, a number each.
    assert abs(beside_gradients(4 * CHUNK) - beside_gradients(CHUNK)) < 1000


def test_two_chunks_of_logits_and_some_blocks_are_all_that_is_held_beside_the_gradients():
    assert CHUNK_BYTES > BLOCK_BYTES < WEIGHT_BYTES, "one array more would be seen"
    assert beside_gradients(2 * CHUNK) < 2 * CHUNK_BYTES + 7 * BLOCK_BYTES


def test_a_frozen_head_costs_no_array_of_its_size():
    assert most_held(a_step(CHUNK, frozen=True)) <= most_held(a_step(CHUNK)) - WEIGHT_BYTES

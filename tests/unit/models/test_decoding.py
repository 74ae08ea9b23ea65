"""Answers are those of transformers' own generate, whatever stands beside them in the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    Lfm2Config,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
)

from potstill.models.decoding import Prompt, decode, draw

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
PROMPTS = [[5, 6, 7], [8], list(range(10, 30)), [40, 41], [50] * 9]


def gemma() -> Any:
    # A window shorter than the longest prompt, so that its sliding layers slide.
    return Gemma3ForCausalLM(
        Gemma3TextConfig(**SIZES, head_dim=8, sliding_window=8, layer_types=["sliding_attention"] * 2 + ["full_attention"])
    )


FAMILIES = {
    "llama": lambda: AutoModelForCausalLM.from_config(LlamaConfig(**SIZES)),
    "phi3": lambda: AutoModelForCausalLM.from_config(Phi3Config(**SIZES)),
    "qwen2": lambda: AutoModelForCausalLM.from_config(Qwen2Config(**SIZES)),
    "qwen3": lambda: AutoModelForCausalLM.from_config(Qwen3Config(**SIZES, head_dim=8)),
    "gemma3": gemma,
    # Layers whose state cannot be cut down to some rows.
    "mamba": lambda: AutoModelForCausalLM.from_config(
        MambaConfig(vocab_size=97, hidden_size=32, num_hidden_layers=3, initializer_range=0.3)
    ),
    "mamba2": lambda: AutoModelForCausalLM.from_config(
        Mamba2Config(vocab_size=97, hidden_size=32, num_hidden_layers=3, head_dim=8, num_heads=8, n_groups=1, initializer_range=0.3)
    ),
    "lfm2": lambda: AutoModelForCausalLM.from_config(Lfm2Config(**SIZES, layer_types=["conv", "full_attention", "conv"])),
}


@pytest.fixture(scope="module", params=FAMILIES)
def module(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(1)
    made = FAMILIES[request.param]().eval()
    made.generation_config.eos_token_id = None
    return made


@torch.inference_mode()
def generated(module: Any, ids: list[int], tokens: int, stops: list[int] | None = None) -> list[int]:
    asked = torch.tensor([ids])
    out = module.generate(
        asked, attention_mask=torch.ones_like(asked), max_new_tokens=tokens, do_sample=False, eos_token_id=stops, pad_token_id=0
    )
    return out[0, len(ids) :].tolist()


def test_a_greedy_batch_writes_what_generate_writes_for_each_prompt_alone(module: Any) -> None:
    written = decode(module, [Prompt(ids, 12) for ids in PROMPTS], [])
    assert [c.ids for c in written] == [generated(module, ids, 12) for ids in PROMPTS]
    assert not any(c.stopped for c in written)


def test_each_prompt_has_its_own_limit_and_the_batch_shrinks_without_changing_the_rest(module: Any) -> None:
    limits = [1, 12, 3, 0, 7]
    written = decode(module, [Prompt(ids, n) for ids, n in zip(PROMPTS, limits, strict=True)], [])
    assert [c.ids for c in written] == [generated(module, ids, n) if n else [] for ids, n in zip(PROMPTS, limits, strict=True)]
    assert [c.tokens for c in written] == limits


def test_a_stop_token_ends_an_answer_and_is_not_part_of_it(module: Any) -> None:
    free = generated(module, PROMPTS[0], 12)
    stop = free[5]
    [written] = decode(module, [Prompt(PROMPTS[0], 12)], [stop])
    first = free.index(stop)
    assert written.ids == free[:first]
    assert written.stopped
    assert written.tokens == first + 1


def test_a_stop_string_ends_an_answer(module: Any) -> None:
    [written] = decode(module, [Prompt(PROMPTS[0], 12, ended=lambda ids: len(ids) == 4)], [])
    assert (len(written.ids), written.stopped) == (4, True)


def test_the_same_seed_draws_the_same_answer_in_any_company(module: Any) -> None:
    drawn = Prompt(PROMPTS[0], 10, temperature=1.0, seed=3)
    [alone] = decode(module, [drawn], [])
    among = decode(module, [Prompt(PROMPTS[2], 10, temperature=1.0, seed=9), drawn, Prompt(PROMPTS[1], 4)], [])
    assert among[1].ids == alone.ids


def test_another_seed_draws_another_answer(module: Any) -> None:
    written = decode(module, [Prompt(PROMPTS[0], 10, temperature=2.0, seed=seed) for seed in range(4)], [])
    assert len({tuple(c.ids) for c in written}) == 4


def test_a_cancelled_batch_stops_between_tokens(module: Any) -> None:
    asked = iter([False, False, True])
    [written] = decode(module, [Prompt(PROMPTS[0], 12)], [], cancelled=lambda: next(asked))
    assert written.tokens == 2


def test_draws_follow_the_softmax() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    n = 20_000
    uniform = torch.rand(n, 1, generator=torch.Generator().manual_seed(0))
    tokens = draw(logits.expand(n, 4), torch.full((n, 1), 0.7), torch.ones(n, 1), uniform)
    expected = (logits / 0.7).softmax(0).double()
    assert chisquare(torch.bincount(tokens, minlength=4).numpy(), (expected / expected.sum() * n).numpy()).pvalue > 0.01


def test_nucleus_sampling_keeps_the_fewest_tokens_that_reach_top_p() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    uniform = torch.linspace(0, 0.9999, 1000)[:, None]
    tokens = draw(logits.expand(1000, 4), torch.ones(1000, 1), torch.full((1000, 1), 0.75), uniform)
    assert torch.bincount(tokens, minlength=4).tolist() == pytest.approx([625, 375, 0, 0], abs=1)


def test_the_tiniest_nucleus_is_greedy() -> None:
    logits = torch.randn(50, 20, generator=torch.Generator().manual_seed(0))
    tokens = draw(logits, torch.ones(50, 1), torch.full((50, 1), 1e-6), torch.full((50, 1), 0.999))
    assert torch.equal(tokens, logits.argmax(1))


def test_nothing_to_write_is_nothing_written(tiny_teacher: Path) -> None:
    module = AutoModelForCausalLM.from_pretrained(tiny_teacher)
    assert decode(module, [], []) == []
    assert decode(module, [Prompt([1], 0)], [])[0].ids == []

"""What all prompts of a batch begin with is read once, and nobody can tell by the answers."""

import asyncio
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from potstill.models.decoding import Prompt, decode
from potstill.models.load import load_local
from potstill.models.shared_prefix import read_prefix, shared_ids
from potstill.models.transformers_local import TransformersModel
from potstill.models.weights import load_weights
from potstill.records import Message, Request, Sampling
from potstill.spec import WeightsSpec

SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 2048,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def model_of(family, **more):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **SIZES | more)).eval()


def prompts_of(count, shared=40, own=(1, 20), seed=0, **options):
    draw = random.Random(seed)
    start = [draw.randrange(3, 300) for _ in range(shared)]
    # The first tokens of their own differ, so that no more than the beginning is shared.
    return [
        Prompt([*start, 3 + row, *(draw.randrange(3, 300) for _ in range(draw.randrange(*own)))], 12, **options) for row in range(count)
    ]


def both_ways(module, prompts, stop_ids=()):
    ids = shared_ids(module, [prompt.ids for prompt in prompts])
    assert ids
    return decode(module, prompts, stop_ids), decode(module, prompts, stop_ids, prefix=read_prefix(module, ids))


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3", "phi3", "smollm3", "olmo2", "granite"])
def test_answers_are_the_same_whether_the_beginning_is_read_once_or_with_each_prompt(family):
    more = {"sliding_window": None} if family == "mistral" else {}
    plain, shared = both_ways(model_of(family, **more), prompts_of(8))
    assert shared == plain
    assert len({tuple(answer.ids) for answer in plain}) > 1, "else any answer would do"


def test_rows_that_end_leave_the_batch_and_the_others_go_on():
    module, prompts = model_of("llama"), prompts_of(8)
    stops = sorted({answer.ids[3] for answer in decode(module, prompts, ())})
    plain, shared = both_ways(module, prompts, stops)
    assert shared == plain
    assert len({answer.tokens for answer in plain}) > 1


def test_drawn_answers_are_the_same_too():
    plain, shared = both_ways(model_of("llama"), prompts_of(4, temperature=0.8, seed=5))
    assert shared == plain


def test_noted_probabilities_are_those_of_a_plain_pass_over_prompt_and_answer():
    module, prompts = model_of("llama"), prompts_of(4, top=5)
    for answers in both_ways(module, prompts, stop_ids=(7,)):
        for prompt, answer in zip(prompts, answers, strict=True):
            written = [noted.token for noted in answer.places]
            assert written == [*answer.ids, *([7] if answer.stopped else [])]
            with torch.inference_mode():
                logits = module(torch.tensor([[*prompt.ids, *written]])).logits[0, len(prompt.ids) - 1 : -1]
            logprobs = logits.log_softmax(-1)
            for noted, row in zip(answer.places, logprobs, strict=True):
                assert noted.logprob == pytest.approx(float(row[noted.token]), abs=1e-3)
                values, tokens = row.topk(5)
                assert [token for token, _ in noted.top] == tokens.tolist()
                assert [value for _, value in noted.top] == pytest.approx(values.tolist(), abs=1e-3)


def test_attention_of_many_long_rows_goes_in_lots():
    module, prompts = model_of("llama", num_hidden_layers=1), prompts_of(48, shared=300, own=(400, 420))
    plain, shared = both_ways(module, prompts[:1] + prompts[1:])
    assert shared == plain


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 60), st.lists(st.lists(st.integers(5, 9), max_size=40), min_size=1, max_size=5))
def test_what_is_shared_is_the_longest_common_beginning_or_nothing(length, rest):
    prompts = [[1] * length + one + [2] for one in rest]
    found = shared_ids(MODULE, prompts)
    same = next(
        (place for place in range(min(map(len, prompts))) if len({prompt[place] for prompt in prompts}) > 1), min(map(len, prompts))
    )
    if found:
        assert list(found) == prompts[0][: min(same, min(map(len, prompts)) - 1)]
        assert all(len(prompt) > len(found) for prompt in prompts)
    elif len(prompts) > 1:
        assert same <= 16 or 2 * same < max(map(len, prompts))


MODULE = model_of("llama")


@pytest.mark.parametrize(("family", "more"), [("gpt2", {}), ("mistral", {"sliding_window": 16}), ("gemma2", {})])
def test_models_that_look_at_what_was_said_in_another_way_read_every_prompt_whole(family, more):
    assert shared_ids(model_of(family, **more), [prompt.ids for prompt in prompts_of(4)]) == ()


def test_a_beginning_is_not_shared_where_positions_turn_otherwise_in_long_prompts():
    rope = {"rope_type": "dynamic", "rope_theta": 10_000.0, "factor": 2.0, "original_max_position_embeddings": 64}
    module = model_of("llama", rope_parameters=rope)
    assert shared_ids(module, [prompt.ids for prompt in prompts_of(4, shared=20, own=(1, 3))])
    assert not shared_ids(module, [prompt.ids for prompt in prompts_of(4, shared=40, own=(1, 3))])


def test_a_model_reads_the_beginning_of_several_batches_once_and_is_left_as_it_was(tiny_teacher):
    model = load_local(WeightsSpec(model=str(tiny_teacher)))
    before, read = model.module.config._attn_implementation, []
    model.module.get_input_embeddings().register_forward_hook(lambda _module, args, _out: read.append(args[0].numel()))
    system = Message("system", "You are a helpful assistant. Answer with one of: positive, negative, neutral, entailment.")
    batches = [
        [Request((system, Message("user", f"{word} {place}")), Sampling(max_new_tokens=1)) for word in ("card", "transfer", "0", "dog")]
        for place in range(2)
    ]
    for batch in batches:
        asyncio.run(model.complete(batch))
    lengths = [model.length(request) for batch in batches for request in batch]
    assert sum(read) < sum(lengths) / 2
    assert len(read) == 3, "the beginning, and each batch without it"
    assert model.module.config._attn_implementation == before


def test_weights_that_are_trained_between_two_batches_read_the_beginning_anew(tiny_teacher):
    weights = load_weights(WeightsSpec(model=str(tiny_teacher)))
    system = Message("system", "You are a helpful assistant. Answer with one of: positive, negative, neutral, entailment.")
    batch = [Request((system, Message("user", word)), Sampling(max_new_tokens=8)) for word in ("card", "transfer", "0", "dog")]
    learner = TransformersModel(weights, name="learner")
    before = asyncio.run(learner.complete(batch))
    with torch.no_grad():
        weights.module.get_input_embeddings().weight.mul_(-1.5)
    after = asyncio.run(learner.complete(batch))
    fresh = asyncio.run(TransformersModel(weights, name="fresh").complete(batch))
    assert [answer.text for answer in after] == [answer.text for answer in fresh] != [answer.text for answer in before]

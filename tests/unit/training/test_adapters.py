"""Adapters are trained in place of the weights, kept merged into them, and resumed like all else."""

import numpy as np
import pytest
import torch
from families import module
from lessons import job
from safetensors.torch import load_file
from test_fine_tune import student  # noqa: F401 - a fixture
from transformers import AutoModelForCausalLM

from potstill.errors import ModelError
from potstill.spec.sections import LoraSpec
from potstill.training.adapters import add_adapters, linear_layers, plain_state
from potstill.training.fine_tune import fine_tune

LORA = {"lora": {"rank": 4, "alpha": 8}}
IDS = torch.arange(12)[None]


@pytest.mark.parametrize("family", ["smollm", "gemma2", "phi3"])
def test_merged_weights_answer_as_adapters_beside_them_do(family):
    model, plain = module(family), module(family, seed=1)
    adapted = add_adapters(model, LoraSpec(rank=4))
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    plain.load_state_dict(plain_state(model))
    with torch.no_grad():
        torch.testing.assert_close(plain(input_ids=IDS).logits, model(input_ids=IDS).logits, rtol=1e-4, atol=1e-4)


def test_without_adapters_the_plain_state_is_the_state():
    model = module("smollm")
    assert plain_state(model).keys() == model.state_dict().keys()


def test_only_adapters_are_trained_and_the_student_is_kept_whole(student, tmp_path):  # noqa: F811
    fine_tune(job(student, tmp_path / "run", validation=None, training=LORA))
    before, after = load_file(student / "model.safetensors"), load_file(tmp_path / "run" / "best" / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    difference = after["model.layers.0.mlp.up_proj.weight"] - before["model.layers.0.mlp.up_proj.weight"]
    assert np.linalg.matrix_rank(difference.float().numpy(), tol=1e-5) <= 4
    saved = load_file(next((tmp_path / "run" / "checkpoints").glob("checkpoint-*")) / "learner.safetensors")
    assert all("lora_" in name for name in saved)
    AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "best")


@pytest.mark.parametrize(("seed", "same"), [(3, True), (4, False)])
def test_the_seed_draws_the_adapters(seed, same):
    one, other = (plain_lora(module("smollm"), number) for number in (3, seed))
    assert all(torch.equal(one[name], other[name]) for name in one) == same


def plain_lora(model, seed):
    adapted = add_adapters(model, LoraSpec(rank=4), seed)
    return {name: weight.detach().clone() for name, weight in adapted.named_parameters() if "lora_" in name}


NOT_THERE = r"`training\.lora\.modules` names {}, but {} has no linear layer called so .*: take some of q_proj, .*, down_proj, or `all`"


@pytest.mark.parametrize(
    ("given", "lacking"),
    [
        (("query",), "query"),
        (("q_proj", "nope", "proj"), "nope, proj"),
        (("lm_head",), "lm_head"),
        (("embed_tokens", "mlp"), "embed_tokens, mlp"),
    ],
)
def test_each_name_that_means_no_layer_is_told_also_beside_others_that_do(given, lacking):
    with pytest.raises(ModelError, match=NOT_THERE.format(lacking, "LlamaForCausalLM")):
        add_adapters(module("smollm"), LoraSpec(modules=given))


@pytest.mark.parametrize("family", ["smollm", "gemma2", "phi3"])
def test_all_layers_are_those_that_can_be_named(family):
    names = {name.rpartition(".")[2] for name in linear_layers(module(family))}
    named, every = (lora_names(module(family), modules) for modules in (tuple(names), "all"))
    assert named == every


def lora_names(model, modules):
    return {name for name, _ in add_adapters(model, LoraSpec(rank=4, modules=modules)).named_parameters() if "lora_" in name}


def test_a_layer_can_be_named_by_its_place():
    assert {name.split(".layers.")[1][:1] for name in lora_names(module("smollm"), ("layers.1.mlp.up_proj",))} == {"1"}

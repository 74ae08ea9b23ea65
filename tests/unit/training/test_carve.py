"""A carved model is its origin with layers bypassed and vocabulary rows selected, in every family of students."""

import copy

import numpy as np
import pytest
import torch
from families import FAMILIES, LAYERS, SPECIALS, module, tokenizer
from torch import nn

from potstill.errors import ModelError, SpecError
from potstill.training.carve import carve, carved_config, evenly_spaced

KEPT_LAYERS = (0, 2, 5)


def kept_ids():
    ids = np.random.default_rng(0).choice(400, size=120, replace=False)
    special = [number for token, number in tokenizer().get_added_vocab().items() if token in SPECIALS]
    return np.array(sorted({*ids.tolist(), *special}), dtype=np.int64)


def bypass(full, layers):
    """The full model with all other layers taken out by hand."""
    short = copy.deepcopy(full)
    stack = short.base_model.layers
    short.base_model.layers = nn.ModuleList([stack[layer] for layer in layers])
    for place, layer in enumerate(short.base_model.layers):
        layer.self_attn.layer_idx = place
        if hasattr(layer, "layer_idx"):
            layer.layer_idx = place
    short.config.num_hidden_layers = len(layers)
    # The stack itself may look its layers' kinds up by place.
    if getattr(short.config, "layer_types", None):
        short.config.layer_types = [full.config.layer_types[layer] for layer in layers]
    return short


@pytest.mark.parametrize("family", FAMILIES)
def test_a_carved_model_answers_as_the_full_one_with_its_other_layers_bypassed(family):
    full, kept = module(family), kept_ids()
    carved = carve(full, KEPT_LAYERS, kept)
    ids = torch.from_numpy(np.random.default_rng(1).integers(0, len(kept), size=(2, 17)))
    with torch.no_grad():
        expected = bypass(full, KEPT_LAYERS)(torch.from_numpy(kept)[ids]).logits[..., kept]
        found = carved(ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert found.std() > 0.05, "logits so flat that any model would pass"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_carved_model_generates_with_a_cache_what_it_generates_without(family):
    carved = carve(module(family), KEPT_LAYERS, kept_ids())
    ids = torch.arange(3, 12)[None]
    answers = [
        carved.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False, use_cache=c) for c in (True, False)
    ]
    assert answers[0].tolist() == answers[1].tolist()


def test_the_weights_of_the_origin_are_copied_not_shared():
    full = module("smollm")
    before = full.model.layers[0].mlp.up_proj.weight.clone()
    carve(full, (0, 5)).model.layers[0].mlp.up_proj.weight.data.zero_()
    assert torch.equal(full.model.layers[0].mlp.up_proj.weight, before)


def test_layers_are_evenly_spaced_with_the_first_and_the_last_among_them():
    assert evenly_spaced(30, 6) == (0, 6, 12, 17, 23, 29)
    assert evenly_spaced(30, 30) == tuple(range(30))
    assert evenly_spaced(30, 1) == (0,)
    for count in range(2, 40):
        for layers in range(2, count + 1):
            chosen = evenly_spaced(count, layers)
            assert len(set(chosen)) == layers
            assert (chosen[0], chosen[-1]) == (0, count - 1)


def test_more_layers_than_there_are_is_refused_with_both_numbers():
    with pytest.raises(SpecError, match=r"student\.carve\.layers: 9 layers are asked for, but the model has 6"):
        evenly_spaced(LAYERS, 9)


def test_lists_of_the_config_with_an_entry_a_layer_follow_the_layers():
    config = module("gemma3").config
    assert len(set(config.layer_types)) == 2
    assert carved_config(config, KEPT_LAYERS).layer_types == [config.layer_types[layer] for layer in KEPT_LAYERS]
    rotary = module("smollm3").config
    assert carved_config(rotary, KEPT_LAYERS).no_rope_layers == [rotary.no_rope_layers[layer] for layer in KEPT_LAYERS]


def test_ids_of_special_tokens_follow_the_vocabulary():
    kept = kept_ids()
    full = module("smollm")
    carved = carve(full, (0, 5), kept)
    for name in ("bos_token_id", "pad_token_id", "image_token_id"):
        assert kept[getattr(carved.config, name)] == getattr(full.config, name)
    for configs in ((carved.config, full.config), (carved.generation_config, full.generation_config)):
        assert kept[configs[0].eos_token_id].tolist() == configs[1].eos_token_id
    assert carved.get_input_embeddings().padding_idx == carved.config.pad_token_id


def test_ids_that_name_no_token_become_none():
    config = module("smollm").config
    config.pad_token_id = 100_000
    assert carved_config(config, (0, 1), kept_ids()).pad_token_id is None


def test_a_list_of_special_ids_as_long_as_the_stack_is_not_taken_for_a_list_of_layers():
    config = module("smollm").config
    config.num_hidden_layers = len(config.eos_token_id)
    assert carved_config(config, (1,)).eos_token_id == config.eos_token_id


def test_a_model_without_a_list_of_layers_is_refused():
    class Flat(nn.Module):
        config = module("smollm").config

    with pytest.raises(ModelError, match="Flat cannot be carved: it holds no list of 6 layers"):
        carve(Flat(), (0,))

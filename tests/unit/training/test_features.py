"""What goes on inside a student is held against its teacher, checked against what whole models give out by themselves."""

import copy

import pytest
import torch
from families import FAMILIES, LAYERS, module, module_with_images
from test_objectives import KEPT, a_batch

from potstill.errors import CapabilityError, SpecError
from potstill.spec.sections import FeaturesSpec
from potstill.training.batches import TokenRow, collate
from potstill.training.capture import Capture, show_attention
from potstill.training.carve import carve
from potstill.training.features import FeatureMatching, matched_layers
from potstill.training.learner import Learner
from potstill.training.losses import attention_kl, hidden_cosine, hidden_mse, relation_kl
from potstill.training.objectives import OBJECTIVES, Ingredients
from potstill.training.targets import LiveTeacher

IMAGES = "gemma3_images"
EVERYTHING = FeaturesSpec(hidden="mse", attention="kl", relations=("query", "key", "value"))
ALL_PARTS = ("hidden", "attention", "query", "key", "value")


def model_of(family, seed=0):
    return module_with_images(512, seed) if family == IMAGES else module(family, seed=seed)


def wide(seed=0, **changes):
    """A Llama of another width and other heads than the families have."""
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 3}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(LlamaConfig(vocab_size=512, initializer_range=0.2, pad_token_id=0, **(settings | changes))).eval()


def learner(student, teacher, spec, pairs, *, vocabulary=512, kept=None):
    live = LiveTeacher(teacher, vocabulary, kept)
    matching = FeatureMatching(student, live, spec, pairs)
    return Learner(student, OBJECTIVES["features"](Ingredients(live if spec.added_to == "logits" else None, features=matching)))


def matched(model, batch):
    """The features' part of a learner's loss."""
    with model.features.watching() as seen:
        model.student.base_model(input_ids=batch.input_ids_BT, use_cache=False)
    return model.features(seen, batch)


@pytest.mark.parametrize("family", [*FAMILIES, IMAGES])
def test_hooks_see_what_the_model_itself_gives_out(family):
    model, batch = model_of(family), a_batch(512)
    show_attention(model)
    with torch.no_grad(), Capture(model, (0, 2), ALL_PARTS).watching() as seen:
        given = model(input_ids=batch.input_ids_BT, output_hidden_states=True, output_attentions=True)
    for layer in (0, 2):
        assert torch.equal(seen[layer, "hidden"], given.hidden_states[layer + 1])
        assert torch.equal(seen[layer, "attention"], given.attentions[layer])
        assert (seen[layer, "attention"].triu(1) == 0).all(), "a position sees what comes later"
    assert {part: seen[2, part].shape[-1] for part in ("query", "key", "value")} == {"query": 32, "key": 16, "value": 16}


def test_no_hook_stays_on_a_model_that_nobody_watches():
    model = module("phi3")
    with Capture(model, (0, 2), ALL_PARTS).watching():
        assert sum(len(child._forward_hooks) for child in model.modules()) == 10
    assert not any(child._forward_hooks for child in model.modules())


def test_queries_keys_and_values_of_one_projection_are_told_apart():
    model, batch = module("phi3"), a_batch(512)
    attention = model.model.layers[1].self_attn
    with torch.no_grad(), Capture(model, (1,), ("query", "key", "value")).watching() as seen:
        inputs = []
        hook = attention.register_forward_pre_hook(lambda _module, _args, given: inputs.append(given["hidden_states"]), with_kwargs=True)
        model(input_ids=batch.input_ids_BT)
        hook.remove()
        together = attention.qkv_proj(inputs[0])
    assert torch.equal(torch.cat([seen[1, part] for part in ("query", "key", "value")], dim=-1), together)


@pytest.mark.parametrize("family", [*FAMILIES, IMAGES])
@pytest.mark.parametrize("added_to", ["logits", "sft"])
def test_a_student_that_is_its_teacher_matches_it_exactly(family, added_to):
    teacher = model_of(family)
    spec = EVERYTHING.model_copy(update={"added_to": added_to})
    model = learner(copy.deepcopy(teacher), teacher, spec, matched_layers(spec, LAYERS, LAYERS, None))
    assert matched(model, a_batch(512)).item() == 0.0


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_the_objectives_and_the_features_by_their_definition(family):
    teacher, batch = module(family), a_batch(len(KEPT))
    student = carve(module(family, seed=1), (0, 5), KEPT).train()
    spec = EVERYTHING.model_copy(update={"hidden_weight": 2.0, "attention_weight": 0.5, "relations_weight": 3.0})
    pairs = [(0, 1), (1, 4)]
    model = learner(student, teacher, spec, pairs, vocabulary=len(KEPT), kept=KEPT)
    found = model(batch)
    found.backward()
    wanted = {name: parameter.grad.clone() for name, parameter in student.named_parameters()}
    student.zero_grad()

    with torch.no_grad(), Capture(teacher, (1, 4), ALL_PARTS).watching() as taught:
        teacher(input_ids=torch.from_numpy(KEPT)[batch.input_ids_BT])
    with Capture(student, (0, 1), ALL_PARTS).watching() as seen:
        student(input_ids=batch.input_ids_BT)
    expected = Learner(student, OBJECTIVES["logits"](Ingredients(LiveTeacher(teacher, len(KEPT), KEPT))))(batch)
    for own, other in pairs:
        states = [found[key, "hidden"].flatten(0, 1)[batch.positions_N] for found, key in ((seen, own), (taught, other))]
        maps = [found[key, "attention"].transpose(1, 2).flatten(0, 1)[batch.positions_N] for found, key in ((seen, own), (taught, other))]
        expected = expected + hidden_mse(*states) + 0.25 * attention_kl(*maps)
        for part in ("query", "key", "value"):
            expected = expected + 1.5 * relation_kl(seen[own, part], taught[other, part], batch.positions_N, heads=4)
    expected.backward()
    torch.testing.assert_close(found, expected)
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(wanted[name], parameter.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("added_to", ["logits", "sft"])
def test_the_teacher_reads_a_batch_once_and_keeps_nothing_of_it(added_to):
    teacher, spec = module("smollm"), FeaturesSpec(added_to=added_to)
    model = learner(module("smollm", seed=1), teacher, spec, [(5, 5)])
    passes = []
    teacher.model.register_forward_hook(lambda *_: passes.append(1))
    for seed in (0, 1):
        model(a_batch(512, seed)).backward()
    assert len(passes) == 2
    assert model.features._teacher._seen is None
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_states_of_one_batch_are_not_taken_for_those_of_another():
    live = LiveTeacher(module("smollm"), 512)
    live.watch((5,), ("hidden",))
    first, second = a_batch(512, 3), a_batch(512, 4)
    alone = live.states(second)[5, "hidden"]
    live.at(first)
    assert torch.equal(live.states(second)[5, "hidden"], alone)
    live.at(first)
    assert not torch.equal(live.states(first)[5, "hidden"], alone)


def test_models_of_different_widths_and_heads_are_matched_through_a_projection():
    teacher, student, batch = wide(), module("qwen3", seed=1).train(), a_batch(512)
    spec = FeaturesSpec(hidden="cosine", attention="mse", attention_heads="mean", relations=("query", "key", "value"))
    model = learner(student, teacher, spec, matched_layers(spec, 6, 4, None))
    assert [linear.weight.shape for linear in model.features.projections] == [(48, 32)] * 4
    torch.testing.assert_close(model.features.projections[0].weight.T @ model.features.projections[0].weight, torch.eye(32))
    assert {parameter.dtype for parameter in model.features.parameters()} == {torch.float32}
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=3e-3), []
    for _ in range(12):
        losses.append(matched(model, batch).item())
        model(batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.8 * losses[0]
    assert not torch.allclose(model.features.projections[3].weight.T @ model.features.projections[3].weight, torch.eye(32), atol=1e-3)


def test_a_projection_between_equal_widths_is_there_where_it_is_asked_for_and_begins_as_the_identity():
    student, teacher, batch = module("smollm", seed=1), module("smollm"), a_batch(512)
    plain, projected = (learner(student, teacher, FeaturesSpec(hidden="mse", project=project), [(5, 5)]) for project in ("auto", "always"))
    assert list(plain.features.parameters()) == []
    torch.testing.assert_close(matched(projected, batch), matched(plain, batch))
    projected(batch).backward()
    assert projected.features.projections[0].weight.grad.ne(0).any()
    assert not any("projections" in name for name in projected.student.state_dict())


def test_projections_are_drawn_by_the_seed_alone():
    def drawn(seed):
        return FeatureMatching(module("smollm"), LiveTeacher(wide(), 512), FeaturesSpec(), [(5, 3)], seed=seed).projections[0].weight

    torch.manual_seed(1)
    first = drawn(0)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert torch.equal(drawn(0), first)
    assert not torch.equal(drawn(1), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_in_sixteen_bits_features_are_still_compared_in_float32():
    batch, spec = a_batch(512), FeaturesSpec(hidden="mse", project="always", attention="kl", relations=("query",))
    model = learner(module("smollm", seed=1).train(), module("smollm"), spec, [(2, 2), (5, 5)])
    expected = matched(model, batch)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(batch)
        found = matched(model, batch)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0)
    loss.backward()
    assert {parameter.grad.dtype for parameter in model.parameters()} == {torch.float32}


def rows(*shapes):
    """Rows of so many tokens, of which so many are trained, and what each weighs."""
    made = []
    for number, (length, count, weight) in enumerate(shapes):
        ids = torch.randint(5, 500, (length,), generator=torch.Generator().manual_seed(number)).int().numpy()
        made.append(TokenRow(ids, (torch.arange(length) >= length - count).numpy(), number, weight))
    return made


@pytest.mark.parametrize("positions", ["trained", "all"])
def test_several_micro_batches_sum_to_what_one_batch_gives_whatever_the_padding(positions):
    spec = EVERYTHING.model_copy(update={"positions": positions})
    model = learner(module("smollm", seed=1), module("smollm"), spec, [(2, 2), (5, 5)])
    lesson = rows((9, 4, 1.0), (14, 2, 0.5), (5, 3, 2.0))
    whole = matched(model, collate(lesson, 0))
    torch.testing.assert_close(sum(matched(model, collate([row], 7)) for row in lesson), whole)


def test_at_all_positions_a_row_counts_as_at_its_trained_ones():
    spec = FeaturesSpec(hidden="cosine", positions="all")
    student, teacher = module("smollm", seed=1), module("smollm")
    model = learner(student, teacher, spec, [(5, 5)])
    batch = collate(rows((9, 4, 1.0), (14, 2, 0.5)), 0)
    with torch.no_grad(), Capture(student, (5,), ("hidden",)).watching() as seen, Capture(teacher, (5,), ("hidden",)).watching() as taught:
        student(input_ids=batch.input_ids_BT)
        teacher(input_ids=batch.input_ids_BT)
    states = [found[5, "hidden"] for found in (seen, taught)]
    means = [hidden_cosine(*(found[row, :length] for found in states)) / length for row, length in ((0, 9), (1, 14))]
    torch.testing.assert_close(matched(model, batch), 4 * means[0] + 2 * 0.5 * means[1])


@pytest.mark.parametrize(
    ("student", "teacher", "cut_from", "expected"),
    [
        (3, 6, (0, 2, 5), [(0, 0), (1, 2), (2, 5)]),
        (3, 6, None, [(0, 0), (1, 2), (2, 5)]),
        (6, 4, None, [(0, 0), (2, 1), (3, 2), (5, 3)]),
        (1, 6, None, [(0, 5)]),
        (6, 6, None, [(n, n) for n in range(6)]),
    ],
)
def test_layers_are_matched_with_what_they_were_cut_from_or_evenly(student, teacher, cut_from, expected):
    assert list(matched_layers(FeaturesSpec(), student, teacher, cut_from)) == expected


def test_layers_that_are_not_there_are_told_with_what_is():
    assert matched_layers(FeaturesSpec(layers={"2": 5, "0": 3}), 3, 6, (0, 1, 2)) == [(0, 3), (2, 5)]
    with pytest.raises(SpecError, match=r"`training.features.layers` names layer 3 of the student, which has 3; take 0 to 2"):
        matched_layers(FeaturesSpec(layers={3: 5}), 3, 6, None)
    with pytest.raises(SpecError, match=r"names layer 6 of the teacher, which has 6; take 0 to 5"):
        matched_layers(FeaturesSpec(layers={0: 6}), 3, 6, None)


def test_attention_heads_that_have_no_counterpart_are_refused():
    with pytest.raises(CapabilityError, match=r"layer 5 has 4 attention heads, the teacher's layer 3 has 6: .*attention_heads: mean"):
        learner(module("smollm"), wide(), FeaturesSpec(attention="kl"), [(5, 3)])


def test_relation_heads_that_cut_no_width_are_refused_and_auto_takes_what_does():
    spec = FeaturesSpec(hidden="none", relations=("query", "key"), relation_heads=3)
    with pytest.raises(CapabilityError, match=r"`training.features.relation_heads` is 3, but .* 16 wide cannot be cut .*a divisor of 8"):
        learner(module("smollm"), wide(), spec, [(5, 3)])
    auto = spec.model_copy(update={"relation_heads": "auto"})
    assert learner(module("smollm"), wide(), auto, [(5, 3)]).features._relation_heads == 2


def test_attention_maps_behind_dropout_are_refused():
    with pytest.raises(CapabilityError, match=r"`attention_dropout` 0.1 in its config.json"):
        learner(wide(attention_dropout=0.1), wide(), FeaturesSpec(attention="kl"), [(3, 3)])


def test_attention_that_shows_no_probabilities_is_refused():
    model = module("smollm")
    with Capture(model, (1,), ("attention",)).watching(), pytest.raises(CapabilityError, match="layer 1 shows no attention probabilities"):
        model(input_ids=a_batch(512).input_ids_BT)


def test_a_model_whose_attention_training_does_not_know_is_refused_unless_hidden_states_are_enough():
    from transformers import CodeGenConfig, CodeGenForCausalLM, GPT2Config, GPT2LMHeadModel

    odd = GPT2LMHeadModel(GPT2Config(vocab_size=512, n_embd=32, n_layer=2, n_head=4)).eval()
    with pytest.raises(CapabilityError, match=r"layer 1 \(GPT2Block\) has no attention whose queries, keys and values training knows"):
        learner(odd, module("smollm"), FeaturesSpec(relations=("query",)), [(1, 5)])
    assert matched(learner(odd, module("smollm"), FeaturesSpec(), [(1, 5)]), a_batch(512)) > 0
    interleaved = CodeGenForCausalLM(CodeGenConfig(vocab_size=512, n_embd=32, n_layer=2, n_head=4, rotary_dim=4)).eval()
    with pytest.raises(CapabilityError, match=r"layer 1 \(CodeGenBlock\) has no attention"):
        learner(interleaved, module("smollm"), FeaturesSpec(relations=("query",)), [(1, 5)])

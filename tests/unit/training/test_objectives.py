"""What a student is pulled to, checked against whole models and dense autograd."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from families import FAMILIES, module
from torch import nn

from potstill.errors import CapabilityError, ModelError
from potstill.spec import RunSpec
from potstill.training.batches import Batch, TokenRow, collate
from potstill.training.carve import carve
from potstill.training.head import head_of, trained_hidden
from potstill.training.kernel import pulled_loss
from potstill.training.objectives import OBJECTIVES, Ingredients, choose_objective, divergence_name
from potstill.training.targets.live_teacher import LiveTeacher

KEPT = np.array(sorted({*range(5, 400, 3), *range(480, 484)}), dtype=np.int64)


def a_batch(vocabulary, seed=0) -> Batch:
    generator = np.random.default_rng(seed)
    rows = []
    for length in (9, 14, 5):
        trained = np.zeros(length, dtype=bool)
        trained[length // 2 :] = True
        rows.append(TokenRow(generator.integers(0, vocabulary, length).astype(np.int32), trained))
    return collate(rows, pad_id=0)


def all_logits(model, batch, ids=None):
    """The model's own logits of the whole padded batch, its padding masked, at the trained positions."""
    lengths = torch.tensor([9, 14, 5])
    mask = (torch.arange(14)[None] < lengths[:, None]).long()
    return model(input_ids=batch.input_ids_BT if ids is None else ids, attention_mask=mask).logits.flatten(0, 1)[batch.positions_N]


def objective_loss(name, student, batch, teacher=None, temperature=1.0):
    objective = OBJECTIVES[name](Ingredients(teacher, temperature=temperature))
    return pulled_loss(trained_hidden(student, batch), head_of(student), [aim.pull(batch) for aim in objective.aims], chunk=4)


def gradients(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_on_trained_positions_gives_the_models_own_logits_there(family):
    model = module(family)
    batch = a_batch(512)
    with torch.no_grad():
        found = head_of(model).logits(trained_hidden(model, batch))
        expected = all_logits(model, batch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_sft_equals_the_models_own_loss_with_prompts_masked(family):
    model = module(family).train()
    batch = a_batch(512)
    labels = torch.full_like(batch.input_ids_BT, -100).flatten()
    labels[batch.positions_N + 1] = batch.labels_N
    expected = model(input_ids=batch.input_ids_BT, labels=labels.view_as(batch.input_ids_BT)).loss
    expected.backward()
    wanted = gradients(model)
    model.zero_grad()
    loss = objective_loss("sft", model, batch) / len(batch.labels_N)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    for name, found in gradients(model).items():
        torch.testing.assert_close(found, wanted[name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_logits_equals_dense_forward_kl_to_the_teacher_over_the_kept_vocabulary(family, temperature):
    teacher = module(family)
    student = carve(module(family, seed=1), (0, 5), KEPT).train()
    batch = a_batch(len(KEPT))
    with torch.no_grad():
        teacher_logits = all_logits(teacher, batch, ids=torch.from_numpy(KEPT)[batch.input_ids_BT])[:, KEPT]
    p = torch.softmax(teacher_logits.double() / temperature, dim=-1)
    q = torch.log_softmax(all_logits(student, batch).double() / temperature, dim=-1)
    expected = (p * (p.log() - q)).sum()
    expected.backward()
    wanted = gradients(student)
    student.zero_grad()
    loss = objective_loss("logits", student, batch, LiveTeacher(teacher, len(KEPT), KEPT, temperature=temperature), temperature)
    loss.backward()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
    for name, found in gradients(student).items():
        torch.testing.assert_close(found, wanted[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_student_that_is_its_teacher_has_no_loss(family):
    model = module(family)
    loss = objective_loss("logits", model, a_batch(512), LiveTeacher(copy.deepcopy(model), 512))
    assert abs(loss.item()) < 1e-6


@pytest.mark.parametrize("family", FAMILIES)
def test_a_carved_student_learns_what_its_teacher_says(family):
    teacher = module(family)
    student = carve(teacher, (0, 3, 5), KEPT).train()
    live = LiveTeacher(teacher, len(KEPT), KEPT)
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    batch, losses = a_batch(len(KEPT)), []
    for _ in range(12):
        loss = objective_loss("logits", student, batch, live) / len(batch.labels_N)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_the_teacher_keeps_no_gradients_and_is_not_trained():
    teacher = module("smollm").train()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    objective_loss("logits", module("smollm", seed=1).train(), a_batch(512), LiveTeacher(teacher, 512)).backward()
    assert not teacher.training
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


def test_a_teacher_names_the_tokens_that_it_cannot_read():
    ids = np.arange(512)
    ids[[3, 40]] = -1
    assert LiveTeacher(module("smollm"), 512, ids).unknown.tolist() == [3, 40]
    assert LiveTeacher(module("smollm", 500), 512).unknown.tolist() == list(range(500, 512))
    assert LiveTeacher(module("smollm"), 512).unknown is None
    assert LiveTeacher(module("smollm"), 512, np.arange(512)).unknown is None


def test_a_teacher_that_is_rounded_once_says_the_same_as_one_that_autocast_rounds_in_every_pass():
    rounded, plain, batch = LiveTeacher(module("smollm"), 512), module("smollm").eval(), a_batch(512)
    whole = rounded.at(batch)(slice(None)).logits_nV
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        found = [rounded.at(batch)(slice(None)).logits_nV for _ in range(2)]
        head = head_of(plain).cast(torch.bfloat16)
        expected = head.logits(trained_hidden(plain, batch).to(torch.bfloat16))
    assert all(torch.equal(one, expected) for one in found)
    assert {weight.dtype for name, weight in rounded.module.named_parameters() if "proj" in name} == {torch.bfloat16}
    # Its table and its norms are not rounded, and it can be asked where nothing is rounded, too.
    torch.testing.assert_close(rounded.at(batch)(slice(None)).logits_nV, whole, rtol=0.1, atol=0.3)
    assert rounded.module.get_input_embeddings().weight.dtype == torch.float32


@pytest.mark.parametrize(("student_size", "teacher_size"), [(512, 540), (540, 512)])
def test_tables_that_end_at_different_lengths_are_compared_where_both_have_tokens(student_size, teacher_size):
    student, teacher = module("smollm", student_size, seed=1), module("smollm", teacher_size)
    batch = a_batch(500)
    with torch.no_grad():
        found = objective_loss("logits", student, batch, LiveTeacher(teacher, student_size))
        p = torch.softmax(all_logits(teacher, batch)[:, :student_size].double(), dim=-1)
        q = torch.log_softmax(all_logits(student, batch).double(), dim=-1)[:, : p.shape[1]]
    torch.testing.assert_close(found.double(), (p * (p.log() - q)).sum(), rtol=1e-5, atol=1e-5)


def test_a_head_that_training_does_not_know_is_refused():
    model = module("smollm")
    forward = type(model).forward

    class Odd(type(model)):
        def forward(self, *args, **kwargs):
            output = forward(self, *args, **kwargs)
            output.logits = output.logits * 1.5
            return output

    model.__class__ = Odd
    with pytest.raises(CapabilityError, match="Odd turns hidden states into logits in a way that training does not know"):
        head_of(model)


def test_damaged_weights_are_named_before_any_work():
    model = module("smollm")
    model.model.norm.weight.data[3] = torch.nan
    with pytest.raises(ModelError, match="its weights are damaged"):
        head_of(model)


def test_the_proof_of_the_head_leaves_the_model_in_its_mode():
    model = module("smollm").train()
    head_of(model)
    assert model.training
    assert isinstance(model.get_output_embeddings(), nn.Linear)


def spec(**training) -> RunSpec:
    return RunSpec.model_validate(
        {
            "name": "x",
            "task": {"type": "summarization"},
            "data": {"train": "t.jsonl"},
            "teacher": {"model": "teacher"},
            "student": {"model": "student"},
            "training": training,
        }
    )


@pytest.mark.parametrize(
    ("wanted", "local", "same", "chosen"),
    [
        ("auto", True, True, "logits"),
        ("auto", True, False, "sft"),
        ("auto", False, True, "sft"),
        ("logits", True, True, "logits"),
        ("on_policy", True, True, "on_policy"),
        ("sft", True, True, "sft"),
        ("features", True, True, "features"),
        ("step_by_step", True, True, "logits"),
        ("step_by_step", False, True, "sft"),
    ],
)
def test_auto_takes_probabilities_where_they_can_be_had(wanted, local, same, chosen):
    assert choose_objective(spec(objective=wanted), teacher_is_local=local, same_tokens=lambda: same) == chosen


@pytest.mark.parametrize(("wanted", "what"), [("logits", "probabilities"), ("on_policy", "probabilities"), ("features", "hidden states")])
@pytest.mark.parametrize(("local", "same", "why"), [(False, True, "is an endpoint"), (True, False, "have different tokenizers")])
def test_what_is_demanded_of_the_teacher_but_cannot_be_had_stops_the_run(local, same, why, wanted, what):
    with pytest.raises(CapabilityError, match=rf"{wanted} needs the teacher's {what}, but .*{why}.*set `training\.objective: sft`"):
        choose_objective(spec(objective=wanted), teacher_is_local=local, same_tokens=lambda: same)


@pytest.mark.parametrize(("objective", "divergence"), [("logits", "forward_kl"), ("on_policy", "jensen_shannon")])
def test_the_divergence_goes_with_the_objective_where_none_is_asked_for(objective, divergence):
    assert divergence_name(spec(), objective) == divergence
    assert divergence_name(spec(divergence="reverse_kl"), objective) == "reverse_kl"


def test_prompt_tokens_are_not_trained_on_text_alone():
    everywhere = spec().model_copy(update={"targets": spec().targets.model_copy(update={"positions": "all"})})
    with pytest.raises(CapabilityError, match=r"targets\.positions: all needs the teacher's probabilities"):
        choose_objective(everywhere, teacher_is_local=False, same_tokens=lambda: True)


def test_moving_a_batch_keeps_what_it_holds():
    batch = a_batch(512)
    moved = batch.to(torch.device("cpu"))
    assert moved.tokens == batch.tokens == 28
    assert torch.equal(replace(moved).labels_N, batch.labels_N)

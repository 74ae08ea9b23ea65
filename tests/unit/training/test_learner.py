"""What wraps the learner wraps its whole forward pass: adapters, several processes, sharded weights."""

import copy
import os
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch
import torch.multiprocessing as processes
from families import module
from test_objectives import a_batch
from torch import distributed
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from potstill.spec.sections import FeaturesSpec
from potstill.training.features import FeatureMatching
from potstill.training.learner import Learner
from potstill.training.losses import divergence_of_logits, forward_kl
from potstill.training.objectives import OBJECTIVES, Ingredients
from potstill.training.targets import LiveTeacher


def learner(seed=1) -> Learner:
    """With all that a learner can hold: the teacher's probabilities, and features with projections of their own."""
    student, live = module("smollm", seed=seed).train(), LiveTeacher(module("smollm"), 512)
    spec = FeaturesSpec(hidden="mse", project="always", relations=("query", "value"))
    return Learner(student, OBJECTIVES["features"](Ingredients(live, features=FeatureMatching(student, live, spec, [(2, 3), (5, 5)]))))


def gradients(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def alone(seeds) -> dict[str, torch.Tensor]:
    """The gradient of the mean of the batches' losses, in one process."""
    model = learner()
    (sum(model(a_batch(512, seed)) for seed in seeds) / len(seeds)).backward()
    return gradients(model)


def test_adapters_learn_and_the_weights_under_them_do_not():
    student = module("smollm", seed=1)
    untouched = copy.deepcopy(student)
    adapted = peft.get_peft_model(student, peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    model = Learner(adapted.train(), OBJECTIVES["logits"](Ingredients(LiveTeacher(module("smollm"), 512))))
    model(a_batch(512)).backward()
    found = gradients(model)
    assert found
    assert all("lora_" in name for name in found)
    # The adapters' gradients equal those of the dense loss through the whole model.
    wanted = {}
    for name, parameter in model.named_parameters():
        wanted[name], parameter.grad = parameter.grad, None
    batch = a_batch(512)
    with torch.no_grad():
        teacher = module("smollm")(input_ids=batch.input_ids_BT).logits.flatten(0, 1)[batch.positions_N]
    logits = adapted(input_ids=batch.input_ids_BT).logits.flatten(0, 1)[batch.positions_N]
    p = torch.softmax(teacher, dim=-1)
    (p * (p.log() - torch.log_softmax(logits, dim=-1))).sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(wanted[name], parameter.grad, rtol=1e-3, atol=1e-5)
    assert torch.equal(untouched.model.embed_tokens.weight, student.get_input_embeddings().weight)


def text_gradients(student, batches) -> dict[str, torch.Tensor]:
    model = Learner(student.train(), OBJECTIVES["logits"](Ingredients(LiveTeacher(module("smollm"), 512), text_weight=0.3)))
    for batch in batches:
        model(batch).backward()
    return gradients(model.student)


@pytest.mark.parametrize("family", ["smollm", "llama31"])
def test_embeddings_tied_to_the_head_or_not_get_the_gradient_of_the_dense_loss(family):
    student, teacher = module(family, seed=1), module("smollm")
    batches = [a_batch(512, seed) for seed in (0, 1)]
    expected = copy.deepcopy(student).train()
    for batch in batches:
        logits = expected(input_ids=batch.input_ids_BT).logits.flatten(0, 1)[batch.positions_N]
        with torch.no_grad():
            wanted = teacher(input_ids=batch.input_ids_BT).logits.flatten(0, 1)[batch.positions_N]
        loss = torch.nn.functional.cross_entropy(logits, batch.labels_N, reduction="sum")
        (divergence_of_logits(forward_kl, logits, wanted) + 0.3 * loss).backward()
    found = text_gradients(copy.deepcopy(student), batches)
    assert found
    for name, gradient in gradients(expected).items():
        assert found[name].layout == torch.strided
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5)


def test_a_batch_without_trained_positions_leaves_a_dense_gradient_that_an_optimizer_takes():
    batch = a_batch(512)
    nothing = replace(batch, positions_N=batch.positions_N[:0], labels_N=batch.labels_N[:0], counts_B=0 * batch.counts_B)
    for name, gradient in text_gradients(module("smollm", seed=1), [nothing]).items():
        assert torch.equal(gradient, torch.zeros_like(gradient)), name


def test_the_students_embedding_is_as_it_was_after_a_pass():
    student = module("smollm", seed=1)
    text_gradients(student, [a_batch(512)])
    assert not student.get_input_embeddings().sparse


def test_the_parts_of_a_batch_have_its_loss_and_its_gradients_together():
    whole, parts = learner(), learner()
    batch = a_batch(512)
    loss = whole(batch)
    loss.backward()
    losses = [parts(part) for part in batch.split(5)]
    assert len(losses) == 3
    sum(losses).backward()
    torch.testing.assert_close(sum(losses), loss)
    expected = gradients(whole)
    for name, gradient in gradients(parts).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-5)


def one_of_two(rank: int, folder: Path, kind: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
    model = learner()
    if kind == "ddp":
        wrapped = DistributedDataParallel(model)
        wrapped(a_batch(512, rank)).backward()
        averaged = gradients(model)
    else:
        for layer in model.student.model.layers:
            fully_shard(layer)
        fully_shard(model)
        model(a_batch(512, rank)).backward()
        averaged = {name: gradient.full_tensor() for name, gradient in gradients(model).items()}
    if rank == 0:
        torch.save(averaged, folder / "found.pt")
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes_average_the_gradients_of_their_batches(kind, tmp_path):
    processes.spawn(one_of_two, args=(tmp_path, kind), nprocs=2)
    found, expected = torch.load(tmp_path / "found.pt", weights_only=True), alone([0, 1])
    assert set(found) == set(expected)
    assert sum("projections" in name for name in found) == 2
    for name, wanted in expected.items():
        torch.testing.assert_close(found[name], wanted, rtol=1e-3, atol=1e-6)

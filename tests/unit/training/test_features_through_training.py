"""Features through a whole training: the distance falls, what they are matched with is trained beside the student, and left behind."""

import copy
import json

import pytest
import torch
from lessons import features_job, rows
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, TrainingArguments

from potstill.models.weights import load_weights
from potstill.spec.sections import FeaturesSpec, WeightsSpec
from potstill.training.batches import LengthBatches, collate
from potstill.training.features import FeatureMatching
from potstill.training.fine_tune import fine_tune
from potstill.training.head import backbone
from potstill.training.objectives.base import Lesson
from potstill.training.rows import encode_rows
from potstill.training.targets import LiveTeacher
from potstill.training.trainer import DistillationTrainer, Judge

KINDS = {
    "hidden": FeaturesSpec(added_to="sft", hidden="cosine", hidden_weight=10.0),
    "distance": FeaturesSpec(added_to="logits", hidden="mse", hidden_weight=0.1),
    "attention": FeaturesSpec(added_to="sft", hidden="none", attention="kl", attention_weight=10.0),
    "relations": FeaturesSpec(added_to="logits", hidden="none", relations=("query", "key", "value"), relations_weight=10.0),
}


def distance(folder, checkpoint, teacher, spec):
    """Features' part of the loss over all rows, a trained position, of weights as they stand in a folder."""
    weights = load_weights(WeightsSpec(model=str(folder), device="cpu"))
    matching = FeatureMatching(weights.module, LiveTeacher(teacher, 512), spec, [(0, 0), (1, 2), (2, 3), (3, 5)], seed=3)
    if checkpoint is not None:
        found = {name.removeprefix("features."): tensor for name, tensor in load_file(checkpoint).items() if name.startswith("features.")}
        matching.load_state_dict(found)
    lesson = encode_rows(weights.tokenizer, rows(), max_length=500).rows
    batch = collate([lesson[n] for n in range(len(lesson))], 0)
    with torch.no_grad(), matching.watching() as seen:
        backbone(weights.module)(input_ids=batch.input_ids_BT, use_cache=False)
        return matching(seen, batch).item() / len(batch.labels_N)


@pytest.mark.parametrize("kind", KINDS)
def test_the_distance_to_the_teacher_falls(kind, tiny_teacher, tmp_path):
    spec, run = KINDS[kind], tmp_path / "run"
    summary = fine_tune(features_job(tiny_teacher, run, spec, validation=None))
    assert summary.objective == "features"
    losses = [line["loss"] for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "loss" in line]
    assert losses[-1] < losses[0]
    teacher = load_weights(WeightsSpec(model=str(tmp_path / "wide-teacher"), device="cpu")).module
    before = distance(tiny_teacher, None, copy.deepcopy(teacher), spec)
    after = distance(run / "best", run / "checkpoints" / "checkpoint-12" / "learner.safetensors", teacher, spec)
    assert after < 0.9 * before


def test_projections_are_trained_and_saved_beside_the_student_and_not_in_it(tiny_teacher, tmp_path):
    run = tmp_path / "run"
    fine_tune(features_job(tiny_teacher, run, KINDS["hidden"], validation=None))
    saved = load_file(run / "checkpoints" / "checkpoint-12" / "learner.safetensors")
    projections = {name: tensor for name, tensor in saved.items() if name.startswith("features.")}
    assert sorted(projections) == [f"features.projections.{pair}.weight" for pair in range(4)]
    assert {(tensor.shape, tensor.dtype) for tensor in projections.values()} == {((48, 32), torch.float32)}
    plain, best = load_file(tiny_teacher / "model.safetensors"), load_file(run / "best" / "model.safetensors")
    assert best.keys() == plain.keys()
    assert AutoModelForCausalLM.from_pretrained(run / "best").config.hidden_size == 32


def test_a_student_that_showed_its_attention_is_loaded_with_the_usual_one(tiny_teacher, tmp_path):
    fine_tune(features_job(tiny_teacher, tmp_path / "run", KINDS["attention"], validation=None, training={"epochs": 1.0}))
    usual = AutoModelForCausalLM.from_pretrained(tiny_teacher).config._attn_implementation
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "best").config._attn_implementation == usual != "eager"


def test_decay_reaches_projections_as_it_reaches_the_students_matrices(tiny_teacher, tmp_path):
    asked = features_job(tiny_teacher, tmp_path / "run", KINDS["hidden"])
    weights = load_weights(asked.student)
    encoded = encode_rows(weights.tokenizer, rows(), max_length=500)
    lesson = Lesson(encoded.rows, LengthBatches(encoded.rows.lengths, 8, 8, seed=0), asked.teaching(encoded.rows, weights.module))
    settings = TrainingArguments(str(tmp_path / "out"), weight_decay=0.25, use_cpu=True, report_to=[], max_steps=1)
    trainer = DistillationTrainer(weights.module, lesson, Judge(None, lambda: None, True, 1), settings)
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    decays = {names[id(one)]: group["weight_decay"] for group in trainer.create_optimizer().param_groups for one in group["params"]}
    assert decays["features.projections.3.weight"] == decays["student.model.layers.3.mlp.up_proj.weight"] == 0.25
    assert decays["student.model.norm.weight"] == 0.0

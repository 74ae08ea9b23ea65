"""The whole way in every family of students: carved, trained on its teacher's probabilities, saved, read back, asked."""

import json

import pytest
from families import FAMILIES, module, module_with_images, tokenizer
from lessons import job, rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from potstill.models.chat import prompt_ids, stop_ids
from potstill.models.decoding import Prompt, decode
from potstill.models.weights import Weights
from potstill.spec.sections import CarveSpec
from potstill.training.fine_tune import fine_tune
from potstill.training.objectives import OBJECTIVES, Ingredients
from potstill.training.objectives.base import always
from potstill.training.rows import vocabulary_use
from potstill.training.student import build_student
from potstill.training.targets.live_teacher import LiveTeacher

IMAGES = "gemma3_images"
BYTE_FALLBACK = ("phi3", "gemma2", "gemma3", IMAGES)


def use(read):
    return vocabulary_use(read, [row.messages[:-1] for row in rows()], rows())


def teacher_of(family):
    built = module_with_images(600) if family == IMAGES else module(family, 600)
    return Weights(built, tokenizer("byte_fallback" if family in BYTE_FALLBACK else "byte_level"), None, "teacher")


def continuations(model, read, questions):
    """What the model writes after each question, all of them in one batch."""
    prompts = [Prompt(prompt_ids(read, messages), 6) for messages in questions]
    return [found.ids for found in decode(model, prompts, stop_ids(read, model))]


@pytest.mark.parametrize("family", [*FAMILIES, IMAGES])
def test_a_student_is_carved_trained_read_back_and_asked(family, tmp_path):
    teacher = teacher_of(family)
    student = build_student(teacher, CarveSpec(layers=3, vocabulary="data"), use, tmp_path / "baseline")
    live = LiveTeacher(teacher.module, student.vocabulary, student.kept_ids)
    objective = OBJECTIVES["logits"](Ingredients(live))
    training = {"micro_batch_size": 3, "epochs": 3.0, "evaluations": 1, "patience": 1}
    summary = fine_tune(job(student.folder, tmp_path / "run", teaching=always(objective), positions="all", training=training))
    losses = [line["loss"] for line in map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) if "loss" in line]
    assert (summary.steps, len(losses)) == (9, 9)
    assert losses[-1] < losses[0]

    model, read = (loader.from_pretrained(tmp_path / "run" / "best") for loader in (AutoModelForCausalLM, AutoTokenizer))
    questions = [row.messages[:-1] for row in rows(4)]
    together = continuations(model, read, questions)
    assert all(together)
    assert together == [continuations(model, read, [asked])[0] for asked in questions]

"""What is learnt beside the teacher's answers, and how much of it reaches the loss."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from potstill.errors import TrainingError
from potstill.models.weights import load_weights
from potstill.records import Example, Message
from potstill.spec import RunSpec
from potstill.spec.sections import WeightsSpec
from potstill.tasks.rationales import WHY, rationale_row
from potstill.training.batches import TokenRows, collate
from potstill.training.head import head_of, trained_hidden
from potstill.training.kernel import pulled_loss
from potstill.training.mixture import Kind, Mixture, mix
from potstill.training.objectives import OBJECTIVES, Ingredients
from potstill.training.objectives.base import always
from potstill.training.objectives.step_by_step import task_weights
from potstill.training.rows import encode_rows
from potstill.training.targets.live_teacher import LiveTeacher

TRAIN = [
    Example("a", (Message("user", "Is the sky blue?"),), reference=("yes",), rationale="Everybody says so."),
    Example("b", (Message("user", "Is it a dog?"),), reference=("no",)),
]


def answered(row: Example, answer: str, rationale: str | None = None) -> Example:
    messages = (*row.messages, Message("assistant", answer))
    return Example(row.id, messages, row.reference, rationale=rationale or row.rationale, trained_turns=(1,))


def spec(objective: str = "auto", reference: float = 0.0, **training: Any) -> RunSpec:
    raw = {
        "name": "x",
        "task": {"type": "nli", "labels": ["yes", "no"]},
        "data": {"train": "t"},
        "teacher": {"model": "t"},
        "student": {"model": "s"},
        "targets": {"weights": {"reference": reference}},
        "training": {"objective": objective, **training},
    }
    return RunSpec.model_validate(raw)


def described(mixture: Mixture) -> list[tuple[str, str, str]]:
    assert mixture.kinds_E is not None
    kinds = [Kind(kind).name for kind in mixture.kinds_E]
    return [(row.id, kind, row.messages[-1].content) for row, kind in zip(mixture.rows, kinds, strict=True)]


def test_without_rationales_and_references_the_accepted_rows_are_learnt_as_they_are() -> None:
    accepted = [answered(row, "yes") for row in TRAIN]
    mixture = mix(spec(), accepted, TRAIN)
    assert mixture.rows is accepted
    assert mixture.kinds_E is None


def test_step_by_step_asks_for_each_answers_reasons_in_a_row_of_its_own() -> None:
    accepted = [answered(TRAIN[0], "yes"), answered(TRAIN[1], "no", "It meows.")]
    mixture = mix(spec("step_by_step"), accepted, TRAIN)
    assert described(mixture) == [
        ("a", "ANSWER", "yes"),
        ("a#why", "RATIONALE", "Everybody says so."),
        ("b", "ANSWER", "no"),
        ("b#why", "RATIONALE", "It meows."),
    ]
    assert mixture.rows[3].messages[0].content == f"Is it a dog?\n\n{WHY}"


def test_rows_that_generation_has_made_of_the_reasons_are_not_made_twice() -> None:
    first = answered(TRAIN[1], "no", "It meows.")
    accepted = [first, rationale_row(first, first.messages[:1], "It meows.")]
    assert [kind for _, kind, _ in described(mix(spec("step_by_step"), accepted, TRAIN))] == ["ANSWER", "RATIONALE"]


def test_references_and_human_reasons_stand_beside_the_teachers_answer_to_an_accepted_row() -> None:
    accepted = [answered(TRAIN[0], "no", "It is night.")]
    mixture = mix(spec("step_by_step", reference=0.5), accepted, TRAIN)
    assert described(mixture) == [
        ("a", "ANSWER", "no"),
        ("a#why", "RATIONALE", "It is night."),
        ("a#gold", "REFERENCE", "yes"),
        ("a#gold#why", "REFERENCE_RATIONALE", "Everybody says so."),
    ]


def test_of_several_answers_to_one_question_the_reference_is_learnt_once() -> None:
    accepted = [answered(TRAIN[1], "no"), answered(TRAIN[1], "yes")]
    kinds = [kind for _, kind, _ in described(mix(spec(reference=1.0), accepted, TRAIN))]
    assert kinds == ["ANSWER", "REFERENCE", "ANSWER"]


def test_a_plain_student_learns_the_same_without_the_reasons() -> None:
    first = answered(TRAIN[1], "no", "It meows.")
    accepted = [first, rationale_row(first, first.messages[:1], "It meows.")]
    mixture = mix(spec("step_by_step"), accepted, TRAIN, answers_alone=True)
    assert described(mixture) == [("b", "ANSWER", "no")]
    assert mixture.rationale_weight is None


def test_step_by_step_without_any_rationale_says_where_to_get_some() -> None:
    with pytest.raises(TrainingError, match=r"none of 1 accepted rows has one: have the teacher give its reasons"):
        mix(spec("step_by_step"), [answered(TRAIN[1], "no")], TRAIN)


def test_reasons_before_the_answer_are_not_two_tasks() -> None:
    raw = spec("step_by_step").model_dump() | {
        "generation": {"prompting": {"strategy": "chain_of_thought", "learn": "rationale_then_answer"}}
    }
    with pytest.raises(ValueError, match="set `learn: both`"):
        RunSpec.model_validate(raw)


def test_references_are_not_learnt_at_prompt_tokens() -> None:
    raw = spec(reference=1.0).model_dump()
    raw["targets"]["positions"] = "all"
    with pytest.raises(ValueError, match=r"set `targets\.positions: answer`"):
        RunSpec.model_validate(raw)


def encoded(mixture: Mixture, folder: Path) -> TokenRows:
    tokenizer = load_weights(WeightsSpec(model=str(folder), device="cpu")).tokenizer
    return mixture.weigh(encode_rows(tokenizer, mixture.rows, max_length=256).rows)


def cross_entropies(student: Any, rows: TokenRows) -> list[torch.Tensor]:
    """Of each row, the loss at each trained token: by autograd, of whole logits."""
    found = []
    for row in rows:
        ids = torch.from_numpy(row.ids.astype(np.int64))
        logits, trained = student(input_ids=ids[None]).logits[0, :-1], torch.from_numpy(row.trained[1:])
        found.append(nn.functional.cross_entropy(logits[trained], ids[1:][trained], reduction="none"))
    return found


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_the_loss_is_that_of_the_answers_and_the_weight_times_that_of_the_reasons(tiny_teacher: Path, weight: float) -> None:
    accepted = [answered(TRAIN[0], "yes"), answered(TRAIN[1], "no", "It meows, and no dog has ever meowed.")]
    mixture = mix(spec("step_by_step", rationale_weight=weight), accepted, TRAIN)
    rows = encoded(mixture, tiny_teacher)
    student = load_weights(WeightsSpec(model=str(tiny_teacher), device="cpu")).module
    losses = cross_entropies(student, rows)
    answer, reason = (torch.cat([losses[place] for place in places]).mean() for places in ((0, 2), (1, 3)))
    expected = (answer + weight * reason) / (1 + weight)
    objective = mixture.teach(always(OBJECTIVES["sft"](Ingredients())))(rows, student)
    batch = collate(list(rows), pad_id=0)
    with torch.no_grad():
        loss = pulled_loss(trained_hidden(student, batch), head_of(student), [aim.pull(batch) for aim in objective.aims])
    assert objective.name == "step_by_step/sft"
    torch.testing.assert_close(loss / len(batch.labels_N), expected.detach(), rtol=1e-5, atol=1e-6)


def test_a_reference_is_learnt_as_text_and_its_neighbours_from_the_teacher(tiny_teacher: Path) -> None:
    mixture = mix(spec(reference=0.5), [answered(TRAIN[0], "no"), answered(TRAIN[1], "yes")], TRAIN)
    rows = encoded(mixture, tiny_teacher)
    student, teacher = (load_weights(WeightsSpec(model=str(tiny_teacher), device="cpu")).module for _ in range(2))
    for layer in teacher.model.layers:
        layer.mlp.down_proj.weight.data.mul_(0.5)
    live = OBJECTIVES["logits"](Ingredients(LiveTeacher(teacher, teacher.config.vocab_size)))
    batch = collate(list(rows), pad_id=0)
    hidden = trained_hidden(student, batch).detach().requires_grad_()
    loss = pulled_loss(hidden, head_of(student), [aim.pull(batch) for aim in mixture.teach(always(live))(rows, student).aims])
    loss.backward()
    own = hidden.detach().requires_grad_()
    logq = torch.log_softmax(head_of(student).logits(own), dim=-1)
    logp = torch.log_softmax(head_of(teacher).logits(trained_hidden(teacher, batch)), dim=-1).detach()
    is_gold = torch.from_numpy(np.repeat([False, True, False, True], batch.counts_B))
    kl = (logp.exp() * (logp - logq)).sum(dim=-1)
    likelihood = -logq.gather(1, batch.labels_N[:, None])[:, 0]
    expected = torch.where(is_gold, 0.5 * likelihood, kl).sum()
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(hidden.grad, own.grad, rtol=1e-4, atol=1e-5)


def test_the_weights_of_all_tokens_have_the_mean_one() -> None:
    tokens, is_rationale = np.array([2, 30, 1, 44]), np.array([False, True, False, True])
    for weight in (0.1, 1.0, 3.0):
        found = task_weights(tokens, is_rationale, rationale_weight=weight)
        assert np.average(found, weights=tokens) == pytest.approx(1.0)
        assert (found * tokens)[is_rationale].sum() == pytest.approx(weight * (found * tokens)[~is_rationale].sum())

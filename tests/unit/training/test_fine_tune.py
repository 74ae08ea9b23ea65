"""Training end to end on a model of 50,000 weights: it learns, it can be killed, it keeps the best, it says what goes wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lessons import ANSWERS, features_job, job, logits_job, on_policy_job, rows, validation
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback, TrainingArguments

from limits import files_of_at_most
from potstill.errors import StoreError, TrainingError
from potstill.models.weights import load_weights
from potstill.records import Message
from potstill.spec.sections import TrainingSpec, WeightsSpec
from potstill.store.events import EventLog, Measured, Noticed, Progressed, read_events
from potstill.training.batches import LengthBatches, collate
from potstill.training.fine_tune import fine_tune
from potstill.training.folders import Checkpoints
from potstill.training.history import best, scored, without_progress
from potstill.training.losses import forward_kl
from potstill.training.objectives import OBJECTIVES, Ingredients, Objective
from potstill.training.objectives.base import Aim, Lesson, always
from potstill.training.rows import encode_rows
from potstill.training.trainer import DistillationTrainer, Judge
from tiny import edit_json

HERE = Path(__file__).parent


@pytest.fixture
def student(tiny_teacher, tmp_path):
    """With dropout, so that a run which does not keep its random numbers apart is found out."""
    folder = tmp_path / "student"
    shutil.copytree(tiny_teacher, folder)
    edit_json(folder / "config.json", attention_dropout=0.1)
    return folder


def figures(folder):
    """`metrics.jsonl` without what the clock says."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in ("tokens_per_s", "writing_share")} for line in lines]


def test_training_lowers_the_loss_and_writes_a_folder_that_transformers_loads(student, tmp_path, capfd):
    summary = fine_tune(job(student, tmp_path / "run"))
    losses = [line["loss"] for line in figures(tmp_path / "run") if "loss" in line]
    assert losses[-1] < 0.5 * losses[0]
    assert (summary.steps, summary.epochs, summary.rows) == (12, 4.0, 24)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "best").config.use_cache
    full, kept = (AutoTokenizer.from_pretrained(folder) for folder in (student, tmp_path / "run" / "best"))
    assert full.get_vocab() == kept.get_vocab()
    assert full.chat_template == kept.chat_template
    assert "".join(capfd.readouterr()) == ""


def test_in_bfloat16_a_student_learns_as_well_and_its_weights_are_kept_as_they_were_stored(student, tmp_path):
    exact, rounded = (fine_tune(logits_job(student, tmp_path / name, training={"precision": name})) for name in ("float32", "bfloat16"))
    assert (exact.precision, rounded.precision) == ("float32", "bfloat16")
    losses = [[line["loss"] for line in figures(tmp_path / name) if "loss" in line] for name in ("float32", "bfloat16")]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    kept, before = (load_file(folder / "model.safetensors") for folder in (tmp_path / "bfloat16" / "best", student))
    assert {name: weight.dtype for name, weight in kept.items()} == {name: weight.dtype for name, weight in before.items()}


def test_small_models_are_trained_in_float32_unless_the_spec_says_otherwise(student, tmp_path):
    assert fine_tune(job(student, tmp_path / "run")).precision == "float32"


def test_a_training_goes_on_in_the_number_format_in_which_it_began(student, tmp_path):
    training, cut = {"precision": "bfloat16"}, tmp_path / "cut"
    expected = fine_tune(job(student, tmp_path / "whole", training=dict(training)))
    killed(job, student, cut, training, (5, "loss"))
    found = fine_tune(job(student, cut))
    assert found.precision == "bfloat16"
    assert (cut / "best" / "model.safetensors").read_bytes() == (tmp_path / "whole" / "best" / "model.safetensors").read_bytes()
    assert found.best_metric == expected.best_metric


def test_trained_tokens_are_those_of_the_answers_every_epoch(student, tmp_path):
    summary = fine_tune(job(student, tmp_path / "run"))
    tokenizer = AutoTokenizer.from_pretrained(student)
    answers = sum(len(tokenizer(row.messages[-1].content + "<|im_end|>")["input_ids"]) for row in rows())
    assert summary.trained_tokens == 4 * answers


def test_the_best_evaluation_is_the_one_that_is_told_and_kept(student, tmp_path):
    folder = tmp_path / "run"
    summary = fine_tune(job(student, folder, training={"epochs": 8.0, "save_minutes": 1e-9}))
    evaluations = [(line["step"], line["validation"]["rouge_l"]) for line in figures(folder) if "validation" in line]
    assert len(evaluations) == 4
    assert (summary.best_step, summary.best_metric) == max(evaluations, key=lambda found: (found[1], found[0]))
    assert len(list((folder / "checkpoints").iterdir())) == 2


def killed(make, student, folder, training, at):
    """A training in a process of its own that gets SIGKILL when it has told this figure of this step."""
    code = (
        f"import os, signal, sys; sys.path[:0] = [{str(HERE)!r}, {str(HERE.parents[1])!r}]\n"
        f"import torch; torch.set_num_threads({torch.get_num_threads()})\n"
        f"from pathlib import Path; from lessons import {make.__name__}; from potstill.training.fine_tune import fine_tune\n"
        "from potstill.store.events import EventLog, Measured\n"
        f"kill = lambda event: isinstance(event, Measured) and event.step == {at[0]} and {at[1]!r} in event.values and os.kill(os.getpid(), signal.SIGKILL)\n"
        f"folder = Path({str(folder)!r})\n"
        f"fine_tune({make.__name__}(Path({str(student)!r}), folder, training={training | {'save_minutes': 1e-9}}, events=EventLog(listeners=(kill,))))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def replay_buffer(folder):
    """What the last checkpoint holds of what the student wrote, the clock apart; None where it wrote nothing."""
    path = folder / "checkpoints" / "checkpoint-12" / "rollouts.safetensors"
    return {name: found.tolist() for name, found in load_file(path).items() if name != "seconds"} if path.exists() else None


# In the middle of an epoch, and after the evaluation that ends one, before anything of it is saved.
@pytest.mark.parametrize(
    ("make", "training", "at"),
    [
        (job, {}, (5, "loss")),
        (job, {}, (9, "validation")),
        (job, {"micro_batch_size": 3}, (5, "loss")),
        (job, {"lora": {"rank": 4, "dropout": 0.1}}, (5, "loss")),
        (logits_job, {}, (5, "loss")),
        (logits_job, {"precision": "bfloat16"}, (5, "loss")),
        (features_job, {}, (5, "loss")),
        # In the middle of what one writing gave, and after a checkpoint at which the student was to write next.
        (on_policy_job, {"micro_batch_size": 3}, (6, "loss")),
        (on_policy_job, {"lora": {"rank": 4}}, (6, "loss")),
        (on_policy_job, {}, (7, "loss")),
    ],
)
def test_a_killed_training_goes_on_to_the_very_weights_of_an_uninterrupted_one(student, tmp_path, make, training, at):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    expected = fine_tune(make(student, whole, training=dict(training)))
    killed(make, student, cut, training, at)
    assert not (cut / "checkpoints" / f"checkpoint-{at[0]}").exists()
    # What a kill in the middle of writing leaves behind.
    torn = cut / "checkpoints" / ".part" / f"checkpoint-{at[0]}"
    torn.mkdir(parents=True, exist_ok=True)
    (torn / "learner.safetensors").write_bytes(b"torn")
    (cut / ".best.part").mkdir(exist_ok=True)

    seen = []
    found = fine_tune(make(student, cut, training=dict(training), events=EventLog(listeners=(seen.append,))))

    assert next(event.done for event in seen if isinstance(event, Progressed)) == at[0] - 1, "it began anew"
    assert (cut / "best" / "model.safetensors").read_bytes() == (whole / "best" / "model.safetensors").read_bytes()
    assert figures(cut) == figures(whole)
    timed = {"seconds": 0.0, "tokens_per_s": 0.0, "writing_share": None}
    assert replace(found, **timed) == replace(expected, **timed)
    assert replay_buffer(cut) == replay_buffer(whole)
    assert {path.name for path in cut.iterdir()} == {"best", "checkpoints", "metrics.jsonl"}


def test_a_finished_training_is_not_trained_further(student, tmp_path):
    first = fine_tune(job(student, tmp_path / "run"))
    before = os.stat(tmp_path / "run" / "best" / "model.safetensors").st_mtime_ns
    seen = []
    assert fine_tune(job(student, tmp_path / "run", events=EventLog(listeners=(seen.append,)))) == first
    assert os.stat(tmp_path / "run" / "best" / "model.safetensors").st_mtime_ns == before
    assert seen == []


def test_a_training_whose_best_weights_are_gone_begins_anew(student, tmp_path):
    first = fine_tune(job(student, tmp_path / "run"))
    weights = (tmp_path / "run" / "best" / "model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "run" / "best")
    seen = []
    second = fine_tune(job(student, tmp_path / "run", events=EventLog(listeners=(seen.append,))))
    assert (tmp_path / "run" / "best" / "model.safetensors").read_bytes() == weights
    assert second.best_step == first.best_step
    assert any("the best weights so far are gone" in event.text for event in seen if isinstance(event, Noticed))


def mislead(lesson):
    """The same questions with the answers of others: the more of it is learnt, the less is known."""
    return [
        replace(row, messages=(*row.messages[:-1], Message("assistant", ANSWERS[(n + 1) % len(ANSWERS)]))) for n, row in enumerate(lesson)
    ]


def test_a_training_that_overfits_is_stopped_early_by_the_defaults(tiny_teacher, tmp_path):
    fine_tune(job(tiny_teacher, tmp_path / "good", training={"epochs": 40.0}))
    defaults = {"evaluations": TrainingSpec().evaluations, "patience": TrainingSpec().patience}
    settings = {"rows": mislead(rows()), "validation": validation(20), "training": {"epochs": 8.0, "learning_rate": 5e-4} | defaults}
    summary = fine_tune(job(tmp_path / "good" / "best", tmp_path / "bad", **settings))
    assert (summary.steps, summary.best_step) == (18, 6), "of 24 steps"
    assert fine_tune(job(tmp_path / "good" / "best", tmp_path / "bad", **settings)) == summary


def test_a_student_that_scores_nothing_is_trained_to_the_end_and_kept_from_there(student, tmp_path):
    hopeless = replace(validation(), parse=lambda text: None)
    summary = fine_tune(job(student, tmp_path / "run", validation=hopeless, training={"evaluations": 6, "patience": 2}))
    assert (summary.best_step, summary.steps) == (12, 12)


@pytest.mark.parametrize(("patience", "told"), [({"patience": 3}, True), ({"patience": 2}, False), ({}, False)])
def test_a_patience_that_can_never_act_is_told(student, tmp_path, patience, told):
    asked = job(student, tmp_path / "run")
    seen = []
    spec = TrainingSpec(learning_rate=1e-3, epochs=1.0, evaluations=4 if patience else 2, **patience)
    fine_tune(replace(asked, training=spec, events=EventLog(listeners=(seen.append,))))
    expected = [
        "`training.patience` of 3 never ends a training of 4 evaluations early; set `training.evaluations` to 5 or more, or a lower patience"
    ]
    assert [event.text for event in seen if isinstance(event, Noticed)] == (expected if told else [])


def out_of_memory(batch):
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


def test_out_of_memory_is_told_with_advice(student, tmp_path):
    greedy = always(Objective("greedy", (Aim(SimpleNamespace(at=out_of_memory), forward_kl),)))
    with pytest.raises(
        TrainingError, match=r"memory ran out while training [\d,]+ weights, 8 rows at a time .*set `training\.micro_batch_size` lower"
    ):
        fine_tune(job(student, tmp_path / "run", teaching=greedy))
    with pytest.raises(TrainingError, match=r"1 row at a time .*lower `training\.max_length`, or choose a smaller student"):
        fine_tune(job(student, tmp_path / "run", teaching=greedy, training={"micro_batch_size": 1}))


def test_other_failures_are_not_taken_for_a_lack_of_memory(student, tmp_path):
    def broken(batch):
        raise RuntimeError("an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        fine_tune(job(student, tmp_path / "run", teaching=always(Objective("broken", (Aim(SimpleNamespace(at=broken), forward_kl),)))))


def checkpoint(folder, step):
    """The student's weights as they stand in a checkpoint."""
    found = load_file(folder / "checkpoints" / f"checkpoint-{step}" / "learner.safetensors")
    # The head is tied to the embedding: whichever name the file has is that of both.
    return {name.removeprefix("student.").replace("lm_head", "model.embed_tokens"): tensor for name, tensor in found.items()}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_best_weights_are_kept_in_the_number_format_of_the_student(student, tmp_path, dtype):
    weights = WeightsSpec(model=str(student), device="cpu", dtype=dtype)
    fine_tune(replace(job(student, tmp_path / "run", training={"epochs": 1.0}), student=weights))
    best_folder, last = tmp_path / "run" / "best", checkpoint(tmp_path / "run", 3)
    kept = load_file(best_folder / "model.safetensors")
    assert kept.keys() == last.keys()
    assert all(torch.equal(kept[name], tensor.to(getattr(torch, dtype))) for name, tensor in last.items())
    assert AutoModelForCausalLM.from_pretrained(best_folder, dtype="auto").dtype == getattr(torch, dtype)


def test_without_questions_the_last_weights_are_the_best(student, tmp_path):
    summary = fine_tune(job(student, tmp_path / "run", validation=None))
    assert (summary.best_step, summary.metric, summary.best_metric) == (12, None, None)
    kept, last = load_file(tmp_path / "run" / "best" / "model.safetensors"), checkpoint(tmp_path / "run", 12)
    assert all(torch.equal(kept[name], last[name]) for name in kept)


def test_a_loss_that_is_no_number_stops_training_with_advice_and_saves_nothing(student, tmp_path):
    with pytest.raises(TrainingError, match=r"the loss is .* at step \d+: training has diverged; lower `training\.learning_rate`"):
        fine_tune(job(student, tmp_path / "run", training={"learning_rate": 1e30, "warmup_ratio": 0.0, "max_grad_norm": 1e9}))
    assert not (tmp_path / "run" / "best").exists()


def test_rows_that_are_too_long_are_left_out_counted_and_reported(student, tmp_path):
    settings = {"training": {"max_length": 38, "epochs": 1.0, "patience": 2}}
    seen = []
    summary = fine_tune(job(student, tmp_path / "run", events=EventLog(listeners=(seen.append,)), **settings))
    assert 0 < summary.rows_too_long < 24
    assert summary.rows + summary.rows_too_long == 24
    warnings = [event.text for event in seen if isinstance(event, Noticed)]
    assert warnings == [f"{summary.rows_too_long} of 24 rows are longer than 38 tokens (`training.max_length`), and are left out"]


def test_rows_longer_than_the_teacher_reads_are_left_out_and_its_context_is_named(student, tmp_path):
    seen = []
    summary = fine_tune(
        job(
            student,
            tmp_path / "run",
            teacher_context=38,
            events=EventLog(listeners=(seen.append,)),
            training={"epochs": 1.0, "patience": 2},
        )
    )
    warnings = [event.text for event in seen if isinstance(event, Noticed)]
    assert warnings == [f"{summary.rows_too_long} of 24 rows are longer than 38 tokens (the teacher's context), and are left out"]


def test_what_teaches_is_told_of_the_student_with_its_adapters(student, tmp_path):
    heard = []

    def teaching(rows, module):
        heard.extend(name for name, _ in module.named_parameters() if "q_proj.lora_" in name)
        return OBJECTIVES["sft"](Ingredients())

    fine_tune(job(student, tmp_path / "run", teaching=teaching, training={"lora": {"rank": 2}, "epochs": 1.0}, validation=None))
    assert heard


def test_a_disk_that_is_full_at_a_checkpoint_says_so_and_leaves_the_one_before(student, tmp_path):
    killed(job, student, tmp_path / "run", {}, at=(3, "loss"))
    before = Checkpoints(tmp_path / "run" / "checkpoints").newest()
    kept = {path.name: path.read_bytes() for path in before.iterdir()}
    with files_of_at_most(20_000), pytest.raises(StoreError, match=r"larger than the file system or `ulimit -f` allows"):
        fine_tune(job(student, tmp_path / "run", training={"save_minutes": 1e-9}))
    assert {path.name: path.read_bytes() for path in before.iterdir()} == kept


def test_rows_that_are_cut_are_learnt_counted_and_reported(student, tmp_path):
    seen = []
    settings = {"max_length": 38, "epochs": 1.0, "patience": 2, "too_long": "cut_left"}
    summary = fine_tune(job(student, tmp_path / "run", events=EventLog(listeners=(seen.append,)), training=settings))
    assert (summary.rows, summary.rows_too_long) == (24, 0)
    assert 0 < summary.rows_cut < 24
    [warning] = [event.text for event in seen if isinstance(event, Noticed)]
    assert warning.startswith(f"{summary.rows_cut} of 24 rows were longer than 38 tokens (`training.max_length`), and have lost")


def test_what_rows_count_reaches_the_loss_that_is_trained_on(student, tmp_path):
    def first_loss(name, weight):
        def weigh(rows):
            return replace(rows, weights=np.full(len(rows), weight, dtype=np.float32))

        fine_tune(job(student, tmp_path / name, steps=1, weigh=weigh, validation=None))
        return json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[0])["loss"]

    assert first_loss("three", 3.0) == pytest.approx(3 * first_loss("one", 1.0), rel=1e-3)


def test_nothing_left_to_train_on_says_why(student, tmp_path):
    with pytest.raises(TrainingError, match=r"24 of 24 rows are longer than 8 tokens \(`training\.max_length`\) \(the longest has \d+\)"):
        fine_tune(job(student, tmp_path / "run", training={"max_length": 8}))
    unanswered = [replace(row, trained_turns=()) for row in rows()]
    with pytest.raises(TrainingError, match="none of 24 rows holds an answer"):
        fine_tune(job(student, tmp_path / "run", rows=unanswered))
    with pytest.raises(TrainingError, match="there are no accepted rows"):
        fine_tune(job(student, tmp_path / "run", rows=[]))


def test_events_tell_of_steps_loss_and_validation(student, tmp_path):
    fine_tune(job(student, tmp_path / "run"))
    events = list(read_events(tmp_path / "run" / "events.jsonl"))
    progress = [event for event in events if isinstance(event, Progressed)]
    assert (progress[-1].done, progress[-1].total, progress[-1].unit) == (12, 12, "steps")
    assert progress[-1].note.startswith("loss ")
    measured = [event.values for event in events if isinstance(event, Measured)]
    assert {"loss", "learning_rate", "tokens_per_s"} in [set(values) for values in measured]
    assert [set(values) for values in measured].count({"validation"}) == 4


def test_the_teachers_probabilities_train_every_position_where_asked(student, tmp_path):
    summary = fine_tune(logits_job(student, tmp_path / "run"))
    encoded = encode_rows(AutoTokenizer.from_pretrained(student), rows(), max_length=500)
    assert summary.trained_tokens == 4 * int(encoded.rows.lengths.sum() - len(encoded.rows))
    losses = [line["loss"] for line in figures(tmp_path / "run") if "loss" in line]
    assert losses[-1] < 0.7 * losses[0]


def small_trainer(student, tmp_path, lesson_rows, micro, judge, **arguments):
    weights = load_weights(WeightsSpec(model=str(student), device="cpu"))
    encoded = encode_rows(weights.tokenizer, lesson_rows, max_length=500)
    batches = LengthBatches(encoded.rows.lengths, 13, micro, seed=0)
    settings = TrainingArguments(
        str(tmp_path / "out"), gradient_accumulation_steps=batches.micro_batches_per_step, save_strategy="no", logging_strategy="no",
        report_to=[], use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False, **arguments,
    )  # fmt: skip
    lesson = Lesson(encoded.rows, batches, OBJECTIVES["sft"](Ingredients()))
    return DistillationTrainer(weights.module, lesson, judge, settings)


@pytest.mark.parametrize(
    ("higher", "values", "kept"), [(True, [0.1, 0.3, 0.2, 0.3, 0.25], [1, 2, 4]), (False, [0.1, 0.3, 0.2, 0.05, 0.4], [1, 4])]
)
def test_weights_are_kept_at_each_evaluation_that_none_before_beats(student, tmp_path, higher, values, kept):
    steps, answers = [], iter(values)
    judge = Judge(lambda: next(answers), lambda: steps.append(trainer.state.global_step), higher, patience=9)
    trainer = small_trainer(student, tmp_path, rows(5), 13, judge, max_steps=5, eval_strategy="no")

    class AtEachStep(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            control.should_evaluate = True

    trainer.add_callback(AtEachStep())
    trainer.train()
    assert steps == kept


def gradient_of_a_step(student, tmp_path, micro):
    edit_json(student / "config.json", attention_dropout=0.0)
    found = {}

    class Catch(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **_):
            found.update({name: parameter.grad.clone() for name, parameter in model.named_parameters()})

    nobody = Judge(None, lambda: None, True, 1)
    trainer = small_trainer(student, tmp_path, rows(13), micro, nobody, max_steps=1, max_grad_norm=0.0)
    trainer.add_callback(Catch())
    return trainer.train().training_loss, found


@pytest.mark.parametrize("micro", [1, 4, 5])
def test_accumulation_gives_the_loss_and_gradient_of_one_large_batch(student, tmp_path, micro):
    loss, expected = gradient_of_a_step(student, tmp_path, 13)
    accumulated, found = gradient_of_a_step(student, tmp_path, micro)
    assert accumulated == pytest.approx(loss, rel=1e-5)
    assert expected
    for name, wanted in expected.items():
        torch.testing.assert_close(found[name], wanted, rtol=1e-4, atol=1e-5)


def test_parts_that_share_what_autocast_rounded_have_the_gradients_of_parts_that_each_round_anew(student, tmp_path):
    trainer = small_trainer(student, tmp_path, rows(200), 13, Judge(None, lambda: None, True, 1), bf16=True)
    learner = trainer.model.eval()
    batch = collate([trainer.train_dataset[place] for place in range(200)], 0)
    parts = batch.split()
    assert len(parts) > 1
    expected = {name: torch.zeros_like(weight) for name, weight in learner.named_parameters()}
    for part in parts:
        with torch.autocast("cpu", torch.bfloat16):
            loss = learner(part) / 100
        for weight, gradient in zip(expected, torch.autograd.grad(loss, list(learner.parameters())), strict=True):
            expected[weight] += gradient.to_dense()
    learner.train = lambda mode=True: learner
    trainer.training_step(learner, batch, 100)
    for name, weight in learner.named_parameters():
        torch.testing.assert_close(weight.grad, expected[name], rtol=1e-3, atol=1e-6)


def evaluations(*values):
    return scored([{"step": 3 * place, "validation": value} for place, value in enumerate(values)])


def test_of_equally_good_evaluations_the_last_is_the_best():
    assert best(evaluations(0.2, 0.5, 0.5, 0.4), higher_is_better=True).step == 6
    assert best(evaluations(0.2, 0.5, 0.2, 0.4), higher_is_better=False).step == 6
    assert best(evaluations(0.0, 0.0, 0.0), higher_is_better=True).step == 6


def test_progress_is_a_better_metric_and_not_an_equal_one():
    assert without_progress(evaluations(0.2, 0.5, 0.5, 0.4), higher_is_better=True) == 2
    assert without_progress(evaluations(0.2, 0.5, 0.6), higher_is_better=True) == 0
    assert without_progress(evaluations(0.2, 0.5, 0.2), higher_is_better=False) == 2


def test_a_student_that_scores_nothing_yet_is_not_given_up():
    assert without_progress(evaluations(0.0, 0.0, 0.0), higher_is_better=True) == 0
    assert without_progress(evaluations(0.0, 0.0, 0.1, 0.0), higher_is_better=True) == 1
    assert without_progress(evaluations(0.0, 0.0, 0.0), higher_is_better=False) == 2


def test_an_evaluation_that_is_no_number_is_never_the_best():
    assert best(evaluations(float("nan"), 0.1, float("nan")), higher_is_better=True).value == 0.1
    assert best(evaluations(float("nan"), 0.1, float("nan")), higher_is_better=False).value == 0.1


def test_asking_the_student_draws_no_random_numbers(tiny_teacher):
    from potstill.models.transformers_local import TransformersModel

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    model = TransformersModel(load_weights(WeightsSpec(model=str(tiny_teacher), device="cpu")), name="x", batch_size=2)
    value = validation().measure(model)
    assert torch.equal(torch.rand(3), expected)
    assert 0.0 <= value <= 1.0
    assert np.isfinite(value)

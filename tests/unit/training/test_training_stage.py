"""The stage: from accepted answers to a trained student, with either objective, resumed and refused as it should be."""

import json
import shutil
from dataclasses import replace

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from potstill.errors import CapabilityError
from potstill.models.folder import identity
from potstill.models.weights import load_weights
from potstill.records import Example, Message
from potstill.spec import RunSpec
from potstill.spec.sections import WeightsSpec
from potstill.store.events import Noticed
from potstill.store.run import open_run
from potstill.training import stage
from potstill.training.recipe import load_live_teacher, load_validation, make_student
from potstill.training.rows import encode_rows
from potstill.training.teaching import build_teaching

ANSWERS = ("Paris is the capital.", "The dog does not mind.", "card lost")


def example(number, answered=False, reference=True):
    asked = (Message("user", f"Summarise the text number {number}: the quick brown fox."),)
    answer = ANSWERS[number % 3]
    return Example(
        f"row-{number}",
        (*asked, Message("assistant", answer)) if answered else asked,
        reference=(answer,) if reference else (),
        trained_turns=(1,) if answered else (),
    )


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row.to_json()) + "\n" for row in rows))


@pytest.fixture
def make_run(tmp_path, tiny_teacher):
    def make(student, training=None, teacher=None, listeners=(), validation_reference=True, **sections):
        spec = RunSpec.model_validate(
            {
                "name": "x",
                "task": {"type": "summarization", "max_new_tokens": 6},
                "data": {"train": str(tmp_path / "train.jsonl")},
                "teacher": teacher or {"model": str(tiny_teacher), "device": "cpu"},
                "student": {"device": "cpu"} | student,
                "training": {"epochs": 2.0, "batch_size": 4, "evaluations": 2, "learning_rate": 2e-3} | (training or {}),
            }
            | sections
        )
        run = open_run(spec, tmp_path / "run", listeners)
        splits = {"train": 12, "validation": 5, "test": 3}
        for split, count in splits.items():
            write(run.path("data", f"{split}.jsonl"), [example(n, reference=validation_reference) for n in range(count)])
        write(run.path("generation", "accepted.jsonl"), [example(n, answered=True) for n in range(12)])
        write(run.path("generation", "validation.jsonl"), [example(n, answered=True, reference=False) for n in range(5)])
        run.stage("data").finish({}, [run.path("data", f"{split}.jsonl") for split in splits])
        run.stage("generate").finish({}, [run.path("generation", f"{name}.jsonl") for name in ("accepted", "validation")])
        return run

    return make


def work(run, resumed=False):
    run.path("training").mkdir(exist_ok=True)
    return stage.work(run, resumed)


def summary(run):
    return json.loads(run.path("training", "summary.json").read_text())


def test_a_student_that_reasons_is_validated_with_room_for_its_reasons(make_run):
    run = make_run({"carve": {"layers": 2}}, task={"type": "summarization", "max_new_tokens": 6, "reasons": True, "reasoning_tokens": 9})
    assert load_validation(run, 2).sampling.max_new_tokens == 15


def test_a_carved_student_is_trained_on_its_teachers_probabilities(make_run):
    seen = []
    run = make_run({"carve": {"layers": 2, "vocabulary": "data"}}, listeners=(seen.append,), targets={"positions": "all"})
    line = work(run)
    found = summary(run)
    assert found["objective"] == "logits"
    assert found["layers"] == [0, 3]
    assert found["parameters"] < found["parameters_before"]
    assert (found["rows"], found["steps"], found["metric"]) == (12, 6, "rouge_l")
    assert line.startswith("0.0 M weights trained by logits on 12 rows: 6 steps, ")
    for name in ("baseline", "best"):
        assert AutoModelForCausalLM.from_pretrained(run.path("training", name)).config.vocab_size == found["vocabulary"]
        assert len(AutoTokenizer.from_pretrained(run.path("training", name))) == found["vocabulary"]
    assert any("weights, " in event.text for event in seen if isinstance(event, Noticed))
    assert all(path.is_file() for path in stage.outputs(run))
    assert not run.path("training", "checkpoints").exists()


def test_a_carved_student_is_trained_on_what_goes_on_in_the_layers_it_was_cut_from(make_run):
    features = {"relations": ["query", "value"], "attention": "mse"}
    seen = []
    run = make_run(
        {"carve": {"layers": 2, "vocabulary": "data"}}, {"objective": "features", "features": features}, listeners=(seen.append,)
    )
    student, teacher = make_student(run, (), run.path("training")), load_live_teacher(run, "features")
    learning = load_weights(WeightsSpec(model=str(student.folder), device="cpu"))
    rows = encode_rows(learning.tokenizer, [example(0, answered=True)], max_length=500).rows
    objective = build_teaching(run, "features", student, teacher, ())(rows, learning.module)
    assert list(objective.features._pairs) == [(0, 0), (1, 3)]
    assert (objective.name, len(objective.aims)) == ("features", 1)
    shutil.rmtree(run.path("training"))
    work(run)
    assert (summary(run)["objective"], summary(run)["layers"], summary(run)["steps"]) == ("features", [0, 3], 6)
    assert not any("training.features" in event.text for event in seen if isinstance(event, Noticed))


def test_features_that_cannot_act_are_told(make_run):
    seen = []
    run = make_run({"carve": {"layers": 2}}, {"objective": "sft", "features": {"hidden": "mse"}}, listeners=(seen.append,))
    work(run)
    told = [event.text for event in seen if isinstance(event, Noticed) and "training.features" in event.text]
    assert told == ["`training.features` acts with `training.objective: features` alone, and the objective is sft"]


def test_a_student_with_another_tokenizer_is_trained_on_text(make_run, tmp_path):
    from tiny import tiny_llama, tiny_tokenizer

    other = tiny_llama(tmp_path / "other", layers=2)
    tiny_tokenizer(other, vocabulary=300)
    run = make_run({"model": str(other)})
    work(run)
    assert summary(run)["objective"] == "sft"
    assert summary(run)["layers"] is None


def test_a_student_with_the_teachers_tokenizer_learns_its_probabilities(make_run, tmp_path):
    from tiny import tiny_llama

    run = make_run({"model": str(tiny_llama(tmp_path / "other", layers=2, hidden=16, seed=4))})
    work(run)
    assert summary(run)["objective"] == "logits"


def test_a_student_with_the_teachers_tokens_under_other_ids_learns_its_probabilities(make_run, tmp_path, tiny_teacher):
    from test_kinship import shuffled

    from tiny import tiny_llama

    other = tiny_llama(tmp_path / "other", layers=2, hidden=16, seed=4)
    student, _ = shuffled(AutoTokenizer.from_pretrained(tiny_teacher))
    student.save_pretrained(other)
    run = make_run({"model": str(other)}, {"objective": "logits"})
    stage.preflight(run)
    work(run)
    assert summary(run)["objective"] == "logits"


def test_a_student_with_another_tokenizer_learns_the_aligned_probabilities_of_its_teacher(make_run, tmp_path):
    from tiny import tiny_llama, tiny_tokenizer

    seen = []
    other = tiny_llama(tmp_path / "other", layers=2)
    tiny_tokenizer(other, vocabulary=300)
    run = make_run({"model": str(other)}, listeners=(seen.append,), targets={"align": True, "k": 8})
    stage.preflight(run)
    work(run)
    assert summary(run)["objective"] == "logits"
    [told] = [event.text for event in seen if isinstance(event, Noticed) and "carried over" in event.text]
    assert "100% of the answers' tokens" in told


@pytest.mark.parametrize("how", ["row", "mixture"])
def test_several_local_teachers_teach_together(make_run, tmp_path, tiny_teacher, how):
    from tiny import tiny_llama

    second = tiny_llama(tmp_path / "second", layers=2, seed=9)
    names = {"big": str(tiny_teacher), "small": str(second)}
    teachers = [{"name": name, "model": model, "device": "cpu"} for name, model in names.items()]
    run = make_run({"model": str(second)}, teacher=teachers[0], teachers=teachers, targets={"teachers": how})
    rows = [replace(example(n, answered=True), teacher=list(names)[n % 2]) for n in range(12)]
    write(run.path("generation", "accepted.jsonl"), rows)
    work(run)
    assert summary(run)["objective"] == "logits"


def test_votes_are_learnt_as_they_fell(make_run, tmp_path):
    from tiny import tiny_llama

    sections = {"targets": {"kind": "votes"}, "generation": {"samples": 4, "choose": "vote"}}
    endpoint = {"model": "m", "base_url": "http://127.0.0.1:1/v1", "temperature": 1.0}
    run = make_run({"model": str(tiny_llama(tmp_path / "student", layers=2))}, teacher=endpoint, **sections)
    rows = [replace(example(n, answered=True), distribution=((ANSWERS[n % 3], 0.75), ("Paris", 0.25))) for n in range(12)]
    write(run.path("generation", "accepted.jsonl"), rows)
    stage.preflight(run)
    work(run)
    assert summary(run)["objective"] == "logits"


def test_probabilities_of_an_endpoint_are_refused_before_any_work(make_run, tmp_path):
    student = {"model": str(tmp_path / "not-even-there")}
    run = make_run(student, {"objective": "logits"}, {"model": "m", "base_url": "http://127.0.0.1:1/v1"})
    with pytest.raises(
        CapabilityError, match=r"training\.objective: logits needs the teacher's probabilities, but the teacher m is an endpoint"
    ):
        work(run)
    assert not run.path("training", "baseline").exists()


def test_the_test_split_is_never_opened(make_run):
    run = make_run({"carve": {"layers": 2, "vocabulary": "data"}})
    run.path("data", "test.jsonl").unlink()
    work(run)
    assert summary(run)["steps"] > 0


def test_without_gold_references_the_teachers_answers_choose_the_best(make_run):
    run = make_run({"carve": {"layers": 2}}, validation_reference=False)
    work(run)
    assert summary(run)["metric"] == "rouge_l"


def test_a_stage_that_was_cut_after_its_summary_has_nothing_left_to_do_but_to_tidy_up(make_run):
    run = make_run({"carve": {"layers": 2}})
    line = work(run)
    stamp = run.path("training", "best", "model.safetensors").stat().st_mtime_ns
    run.path("training", "checkpoints", "checkpoint-6").mkdir(parents=True)
    assert work(run, resumed=True) == line
    assert run.path("training", "best", "model.safetensors").stat().st_mtime_ns == stamp
    assert not run.path("training", "checkpoints").exists()


def remove(folder):
    shutil.rmtree(folder)


def zero(folder):
    weights = load_file(folder / "model.safetensors")
    save_file({name: tensor * 0 for name, tensor in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"})


def lose_the_config(folder):
    (folder / "config.json").unlink()


@pytest.mark.parametrize("damage", [remove, zero, lose_the_config])
@pytest.mark.parametrize("name", ["best", "baseline"])
def test_a_damaged_model_of_a_finished_stage_is_made_anew_the_same(make_run, name, damage):
    run = make_run({"carve": {"layers": 2}})
    work(run)
    expected = identity(run.path("training", name))
    damage(run.path("training", name))
    work(run, resumed=True)
    assert identity(run.path("training", name)) == expected


def test_a_baseline_that_is_damaged_before_training_ends_is_not_trained_from(make_run):
    run = make_run({"carve": {"layers": 2}})
    work(run)
    expected = identity(run.path("training", "best"))
    zero(run.path("training", "baseline"))
    run.path("training", "summary.json").unlink()
    shutil.rmtree(run.path("training", "best"))
    work(run, resumed=True)
    assert identity(run.path("training", "best")) == expected


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer_config.json"])
def test_outputs_name_the_files_that_a_model_cannot_do_without(make_run, file):
    run = make_run({"carve": {"layers": 2}})
    work(run)
    assert all(path.is_file() for path in stage.outputs(run))
    run.path("training", "best", file).unlink()
    assert run.path("training", "best", file) in stage.outputs(run)


def test_a_stage_that_was_cut_before_training_takes_the_student_that_stands(make_run):
    run = make_run({"carve": {"layers": 2, "vocabulary": "data"}})
    work(run)
    first = summary(run)
    stamp = run.path("training", "baseline", "model.safetensors").stat().st_mtime_ns
    for name in ("summary.json", "metrics.jsonl"):
        run.path("training", name).unlink()
    work(run, resumed=True)
    timed = {"seconds", "tokens_per_s"}
    assert {k: v for k, v in summary(run).items() if k not in timed} == {k: v for k, v in first.items() if k not in timed}
    assert run.path("training", "baseline", "model.safetensors").stat().st_mtime_ns == stamp


def test_inputs_change_with_what_is_learnt_and_not_with_how_often_it_is_saved(make_run):
    carve = {"carve": {"layers": 2}}
    base = stage.inputs(make_run(carve))
    assert stage.inputs(make_run(carve, {"save_minutes": 9.0})) == base
    assert stage.inputs(make_run(carve, {"epochs": 3.0})) != base
    assert stage.inputs(make_run({"carve": {"layers": 3}})) != base
    run = make_run(carve)
    write(run.path("generation", "accepted.jsonl"), [example(n, answered=True) for n in range(11)])
    run.stage("generate").finish({}, [run.path("generation", f"{name}.jsonl") for name in ("accepted", "validation")])
    assert stage.inputs(run) != base


def test_inputs_change_with_what_a_chat_template_says_and_not_only_with_its_name(make_run, tmp_path, tiny_teacher):
    template = tmp_path / "chat.jinja"
    for section in ("teacher", "student"):
        sections = {"teacher": {"model": str(tiny_teacher)}, "student": {"carve": {"layers": 2}}}
        sections[section]["chat_template"] = str(template)
        template.write_text("{{ messages }}")
        before = stage.inputs(make_run(**sections))
        template.write_text("{{ messages[0] }}")
        assert stage.inputs(make_run(**sections)) != before


def test_inputs_change_with_recorded_answers_and_not_only_with_their_file_s_name(make_run, tmp_path, tiny_teacher):
    recorded = tmp_path / "answers.jsonl"
    sections = {"teacher": {"replay": str(recorded)}, "student": {"model": str(tiny_teacher)}}
    recorded.write_text("{}\n")
    before = stage.inputs(make_run(**sections))
    recorded.write_text("[]\n")
    assert stage.inputs(make_run(**sections)) != before


def test_the_checkpoint_is_chosen_by_the_first_metric_that_is_asked_for(make_run):
    run = make_run({"carve": {"layers": 2}}, evaluation={"metrics": ["chrf", "rouge_1"]})
    work(run)
    assert summary(run)["metric"] == "chrf"
    assert stage.inputs(run) != stage.inputs(make_run({"carve": {"layers": 2}}))
    assert stage.inputs(run) == stage.inputs(make_run({"carve": {"layers": 2}}, evaluation={"metrics": ["chrf"]}))


@pytest.mark.parametrize(("asked", "most"), [({}, 6), ({"max_new_tokens": 3}, 3)])
def test_a_student_of_a_trimmed_vocabulary_learns_from_what_it_writes_itself(make_run, asked, most):
    training = {"objective": "on_policy", "on_policy": {"share": 0.5, "refresh": 2} | asked}
    run = make_run({"carve": {"layers": 2, "vocabulary": "data"}}, training)
    line = work(run)
    found = summary(run)
    # Six steps of four rows, two of which are written, for two steps at a time, in at most as many tokens as the task has.
    assert (found["objective"], found["rollouts"]) == ("on_policy", 12)
    assert 1.0 <= found["rollout_length"] <= most
    assert f"trained by on_policy on 12 rows: 6 steps, {found['tokens_per_s']:,.0f} tokens/s in float32, 12 rollouts in " in line


def test_everything_that_belongs_to_one_set_of_inputs_is_discarded_with_it(make_run):
    run = make_run({"carve": {"layers": 2, "vocabulary": "data"}})
    work(run)
    # Cached targets are found by what they are of, and serve whatever inputs come next.
    assert {path.name for path in run.path("training").iterdir()} - {"targets"} <= set(stage.DISCARD)


def test_the_plain_student_beside_is_the_very_one_that_sft_alone_would_have_trained(make_run):
    run = make_run({"carve": {"layers": 2}}, {"compare_with_sft": True})
    line = work(run)
    beside = identity(run.path("training", "sft", "best"))
    assert "trained by logits" in line
    assert "beside it 0.0 M weights trained by sft on 12 rows: 6 steps" in line
    assert beside != identity(run.path("training", "best"))
    assert run.path("training", "sft", "best", "model.safetensors") in stage.outputs(run)
    shutil.rmtree(run.path("training"))
    work(make_run({"carve": {"layers": 2}}, {"objective": "sft"}))
    assert identity(run.path("training", "best")) == beside


@pytest.mark.parametrize(
    "training", [{"objective": "on_policy", "on_policy": {"refresh": 2}}, {"objective": "features", "features": {"hidden": "mse"}}]
)
def test_the_plain_student_beside_learns_the_text_alone_whatever_the_other_learns(make_run, training):
    seen = []
    run = make_run({"carve": {"layers": 2}}, {**training, "compare_with_sft": True}, listeners=(seen.append,))
    work(run)
    beside = json.loads(run.path("training", "sft", "summary.json").read_text())
    assert (summary(run)["objective"], beside["objective"], beside["rollouts"]) == (training["objective"], "sft", 0)
    assert not any("acts with" in event.text for event in seen if isinstance(event, Noticed))


def test_a_stage_that_was_cut_beside_its_student_keeps_the_student_and_ends_the_same(make_run):
    run = make_run({"carve": {"layers": 2}}, {"compare_with_sft": True})
    work(run)
    expected, stamp = identity(run.path("training", "sft", "best")), run.path("training", "best", "model.safetensors").stat().st_mtime_ns
    run.path("training", "sft", "summary.json").unlink()
    shutil.rmtree(run.path("training", "sft", "best"))
    work(run, resumed=True)
    assert identity(run.path("training", "sft", "best")) == expected
    assert run.path("training", "best", "model.safetensors").stat().st_mtime_ns == stamp


def test_a_student_that_learns_by_sft_is_compared_with_nobody_and_that_is_said(make_run):
    seen = []
    run = make_run({"carve": {"layers": 2}}, {"objective": "sft", "compare_with_sft": True}, listeners=(seen.append,))
    work(run)
    assert any("the student learns by `sft` itself" in event.text for event in seen if isinstance(event, Noticed))
    assert not run.path("training", "sft").exists()
    assert all(path.is_file() for path in stage.outputs(run))


def test_step_by_step_learns_reasons_beside_answers_and_its_trimmed_vocabulary_holds_them(make_run):
    run = make_run({"carve": {"layers": 2, "vocabulary": "data"}}, {"objective": "step_by_step", "compare_with_sft": True})
    rows = [replace(example(n, answered=True), rationale=f"It lost exchange rate number {n}.") for n in range(12)]
    write(run.path("generation", "accepted.jsonl"), rows)
    work(run)
    assert (summary(run)["objective"], summary(run)["rows"]) == ("step_by_step/logits", 24)
    beside = json.loads(run.path("training", "sft", "summary.json").read_text())
    assert (beside["objective"], beside["rows"], beside["steps"]) == ("sft", 12, summary(run)["steps_planned"])

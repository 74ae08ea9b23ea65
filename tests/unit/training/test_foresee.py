"""What would stop training is known before the teacher is asked: by `potstill check`, and by a run before it spends anything."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from potstill.errors import ModelError
from potstill.models.reading import read_empty
from potstill.spec import RunSpec
from potstill.store.run import open_run
from potstill.training import stage
from potstill.training.adapters import linear_layers
from potstill.training.foresee import foresee
from tiny import edit_json, tiny_gguf, tiny_llama, tiny_tokenizer, without

ENDPOINT = {"model": "m", "base_url": "http://127.0.0.1:9/v1"}


@pytest.fixture
def model(tiny_teacher: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_teacher, tmp_path / "model"))


def spec_of(teacher: dict[str, Any], student: dict[str, Any], **sections: Any) -> RunSpec:
    given = {"name": "x", "task": {"type": "summarization"}, "data": {"train": "/nowhere"}, "teacher": teacher, "student": student}
    return RunSpec.model_validate(given | sections)


def wordpiece(folder: Path) -> None:
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]")).save(str(folder / "tokenizer.json"))


def encoder(folder: Path) -> None:
    edit_json(folder / "config.json", model_type="t5")


def as_it_is(folder: Path) -> None:
    del folder


CASES = {
    "too many layers": (as_it_is, {"carve": {"layers": 99}}, "`student.carve.layers` is 99, but"),
    "a tokenizer that cannot be trimmed": (
        wordpiece,
        {"carve": {"layers": 2, "vocabulary": "data"}},
        "of type WordPiece cannot be trimmed",
    ),
    "an architecture that writes no text": (encoder, {}, "architecture 't5' is not one"),
    "no template": (lambda folder: without(folder, "chat_template.jinja"), {}, "brings no chat template"),
    "no such template": (as_it_is, {"chat_template": "/nosuch.jinja"}, "/nosuch.jinja: `chat_template` names this file"),
    "no such device": (as_it_is, {"device": "banana"}, 'device "banana" is not to be had here'),
    "no tokenizer": (lambda folder: without(folder, "tokenizer.json"), {}, "has no tokenizer"),
    "unknown architecture": (lambda folder: edit_json(folder / "config.json", model_type="banana"), {}, "architecture 'banana'"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_training_would_fail_on_stops_a_run_before_an_endpoint_is_paid(case: str, model: Path, tmp_path: Path) -> None:
    spoil, student, words = CASES[case]
    spoil(model)
    spec = spec_of(ENDPOINT, {"model": str(model), **student})
    [problem] = foresee(spec).problems
    assert words in problem
    with pytest.raises(ModelError) as caught:
        stage.preflight(open_run(spec, tmp_path / "run"))
    assert words in str(caught.value)


@pytest.mark.parametrize("tensor", ["model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight"])
def test_weights_that_are_no_numbers_stop_a_run_before_an_endpoint_is_paid(tensor: str, model: Path, tmp_path: Path) -> None:
    weights = load_file(model / "model.safetensors")
    weights[tensor][-1, -1] = float("nan")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"model\.safetensors: {tensor} holds numbers that are not finite"):
        stage.preflight(open_run(spec_of(ENDPOINT, {"model": str(model)}), tmp_path / "run"))


FEATURES = {
    "heads that cannot be paired": (
        {"attention": "kl", "attention_heads": "each"},
        {"num_attention_heads": 2},
        "attention heads, the teacher's",
    ),
    "attention that is dropped out": ({"attention": "kl"}, {"attention_dropout": 0.1}, "drops out attention"),
    "relations that cannot be cut so": ({"relations": ["query"], "relation_heads": 7}, {}, "cannot be cut in as many parts"),
}


@pytest.mark.parametrize("case", FEATURES)
def test_features_that_cannot_be_matched_are_known_before_the_teacher_answers(case: str, model: Path, tmp_path: Path) -> None:
    features, config, words = FEATURES[case]
    student = Path(shutil.copytree(model, tmp_path / "student"))
    edit_json(student / "config.json", **config)
    sound, spoilt = (
        spec_of({"model": str(model)}, {"model": str(folder)}, training={"objective": "features", "features": asked})
        for folder, asked in ((model, {"attention": "kl", "relations": ["query"]}), (student, features))
    )
    assert foresee(sound).problems == ()
    [problem] = foresee(spoilt).problems
    assert words in problem


@pytest.mark.parametrize("kind", ["top_k", "sampled"])
def test_what_is_cached_is_one_teachers(kind: str, model: Path) -> None:
    teachers = [{"model": str(model)}, {"name": "other", "model": str(model)}]
    spec = spec_of(teachers[0], {"model": str(model)}, teachers=teachers, targets={"kind": kind})
    assert f"`targets.kind: {kind}` keeps what one teacher says, but 2 are named: take `live`, or `auto`" in foresee(spec).problems


def test_a_sound_student_passes(model: Path, tmp_path: Path) -> None:
    spec = spec_of(ENDPOINT, {"model": str(model), "carve": {"layers": 4, "vocabulary": "data"}})
    assert foresee(spec).problems == ()
    stage.preflight(open_run(spec, tmp_path / "run"))


def test_a_teacher_is_looked_at_too_and_what_both_share_is_told_once(model: Path) -> None:
    without(model, "chat_template.jinja")
    found = foresee(spec_of({"model": str(model)}, {"carve": {"layers": 9}, "device": "banana", "chat_template": "/nosuch.jinja"})).problems
    assert [word in line for word, line in zip(("teacher: ", "/nosuch.jinja", "banana", "layers` is 9"), found, strict=True)] == [True] * 4


@pytest.mark.parametrize("objective", ["logits", "on_policy"])
def test_probabilities_need_a_local_teacher_of_the_same_tokens(objective: str, model: Path, tmp_path: Path) -> None:
    other = tiny_llama(tmp_path / "other", layers=2)
    tiny_tokenizer(other, vocabulary=300)
    for teacher, words in ((ENDPOINT, "the teacher is an endpoint"), ({"model": str(model)}, "have different ones")):
        [problem] = foresee(spec_of(teacher, {"model": str(other)}, training={"objective": objective})).problems
        assert f"`training.objective: {objective}` needs" in problem
        assert words in problem
    assert foresee(spec_of({"model": str(model)}, {"model": str(other)})).problems == ()


def test_hidden_states_need_a_local_teacher_of_the_same_tokens_and_layers_that_are_there(model: Path, tmp_path: Path) -> None:
    other = tiny_llama(tmp_path / "other", layers=2)
    tiny_tokenizer(other, vocabulary=300)
    carved = {"carve": {"layers": 2}}
    cases: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], str]] = [
        (ENDPOINT, {"model": str(other)}, {}, "needs the teacher's hidden states, but the teacher is an endpoint"),
        ({"model": str(model)}, {"model": str(other)}, {}, "have different ones"),
        ({"model": str(model)}, carved, {"layers": {"2": 3}}, "names layer 2 of the student, which has 2; take 0 to 1"),
        ({"model": str(model)}, {"model": str(model)}, {"layers": {"0": 4}}, "names layer 4 of the teacher, which has 4; take 0 to 3"),
    ]
    for teacher, student, features, words in cases:
        [problem] = foresee(spec_of(teacher, student, training={"objective": "features", "features": features})).problems
        assert words in problem
    assert (
        foresee(spec_of({"model": str(model)}, carved, training={"objective": "features", "features": {"layers": {"1": 3}}})).problems == ()
    )


def test_an_endpoint_of_the_catalogue_is_nothing_to_carve_from() -> None:
    [problem] = foresee(spec_of({"model": "gpt-4o"}, {"carve": {"layers": 2}})).problems
    assert "name one in `student.model`" in problem


def test_a_student_larger_than_its_teacher_is_refused_unless_it_is_cut_out_of_something(tmp_path: Path) -> None:
    small, large = tiny_llama(tmp_path / "small", layers=2), tiny_llama(tmp_path / "large", layers=6)
    for folder in (small, large):
        tiny_tokenizer(folder)
    [problem] = foresee(spec_of({"model": str(small)}, {"model": str(large)})).problems
    assert f"{large} (" in problem
    assert f"is larger than its teacher {small} (" in problem
    assert foresee(spec_of({"model": str(large)}, {"model": str(small)})).problems == ()
    assert foresee(spec_of({"model": str(small)}, {"model": str(large), "carve": {"layers": 1}})).problems == ()


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"targets": {"kind": "logprobs", "positions": "all"}}, "says nothing of the prompt's tokens: set `targets.positions: answer`"),
        ({"targets": {"kind": "logprobs", "temperature": 2.0}}, "leave the temperatures at 1"),
        ({"targets": {"kind": "logprobs"}, "training": {"objective": "sft"}}, "`training.objective: sft` learns from text alone"),
        ({"targets": {"kind": "votes"}, "generation": {"choose": "vote"}}, "needs several answers to each question"),
        (
            {"targets": {"kind": "votes"}, "generation": {"samples": 4}},
            "answers of summarization are not alike: set `generation.choose: vote`",
        ),
    ],
)
def test_targets_beside_answers_need_what_they_are_made_of(sections: dict[str, Any], words: str, model: Path) -> None:
    [problem] = foresee(spec_of(ENDPOINT | {"temperature": 1.0}, {"model": str(model)}, **sections)).problems
    assert words in problem


def test_a_judges_scores_of_labels_are_shares_without_several_answers(model: Path) -> None:
    nli = {"task": {"type": "nli", "labels": ["a", "b"]}, "targets": {"kind": "votes"}}
    assert foresee(spec_of(ENDPOINT, {"model": str(model)}, generation={"choose": "label_scores"}, **nli)).problems == ()
    [problem] = foresee(spec_of(ENDPOINT, {"model": str(model)}, **nli)).problems
    assert "`choose: label_scores`" in problem


def test_a_local_teacher_gives_more_than_log_probabilities(model: Path) -> None:
    [problem] = foresee(spec_of({"model": str(model)}, {"model": str(model)}, targets={"kind": "logprobs"})).problems
    assert "is local, and gives more: set `targets.kind: live`" in problem


def test_another_tokenizer_is_aligned_where_the_spec_says_so(model: Path, tmp_path: Path) -> None:
    other = tiny_llama(tmp_path / "other", layers=2)
    tiny_tokenizer(other, vocabulary=300)
    teacher, student = {"model": str(model)}, {"model": str(other)}
    assert foresee(spec_of(teacher, student, training={"objective": "logits"}, targets={"align": True})).problems == ()
    [problem] = foresee(spec_of(teacher, student, targets={"align": True, "positions": "all"})).problems
    assert "carries over what the teacher says of answers alone" in problem


def test_a_live_teacher_that_is_asked_for_is_no_endpoint(model: Path) -> None:
    [problem] = foresee(spec_of(ENDPOINT, {"model": str(model)}, targets={"kind": "live"})).problems
    assert "`targets.kind: live` needs the teacher's probabilities, but the teacher is an endpoint" in problem


def test_several_teachers_teach_by_probabilities_where_all_are_local(model: Path) -> None:
    teachers = {"teachers": [{"model": str(model)}, {"name": "other", **ENDPOINT}], "training": {"objective": "logits"}}
    [problem] = foresee(
        RunSpec.model_validate(spec_of({"model": "x"}, {"model": str(model)}).model_dump(exclude={"teacher"}) | teachers)
    ).problems
    assert "the teacher is an endpoint" in problem


def test_no_more_tokens_a_position_are_kept_than_there_are(model: Path) -> None:
    tokens = len(json.loads((model / "tokenizer.json").read_text())["model"]["vocab"])
    [problem] = foresee(spec_of({"model": str(model)}, {"carve": {"layers": 2}}, targets={"k": 10_000_000})).problems
    assert "`targets.k` is 10,000,000, but" in problem
    assert foresee(spec_of({"model": str(model)}, {"carve": {"layers": 2}}, targets={"k": tokens})).problems == ()


def test_layers_for_adapters_that_the_student_does_not_have_are_named_before_anything_is_paid(model: Path, tmp_path: Path) -> None:
    lora = {"training": {"lora": {"modules": ["q_proj", "query"]}}}
    for student in ({"model": str(model)}, {"model": str(tiny_gguf(tmp_path / "tiny.gguf", model)), "carve": {"layers": 2}}):
        [problem] = foresee(spec_of(ENDPOINT, student, **lora)).problems
        assert f"names query, but {student['model']} has no linear layer called so" in problem
        assert "take some of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, or `all`" in problem
        with pytest.raises(ModelError, match="names query"):
            stage.preflight(open_run(spec_of(ENDPOINT, student, **lora), tmp_path / "run"))
    assert foresee(spec_of(ENDPOINT, {"model": str(model)}, training={"lora": {"modules": ["q_proj", "mlp.up_proj"]}})).problems == ()


def test_the_layers_of_a_model_are_known_without_its_weights(model: Path) -> None:
    without(model, "model.safetensors")
    assert len(linear_layers(read_empty(model, False))) == 4 * 7

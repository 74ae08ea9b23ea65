"""The untrained student is an ordinary folder that transformers loads without Potstill."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from families import FAMILIES, LAYERS, module, tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from potstill.errors import SpecError
from potstill.models.chat import prompt_ids, training_ids
from potstill.models.weights import Weights, load_weights
from potstill.records import Example, Message
from potstill.spec.sections import CarveSpec, WeightsSpec
from potstill.training.rows import vocabulary_use
from potstill.training.student import build_student, read_student, write_student
from tiny import edit_json

ROW = Example(
    "a",
    (Message("user", "Return the number of items in a list."), Message("assistant", "the quick brown fox ✓")),
    trained_turns=(1,),
)


def token_use(read):
    return vocabulary_use(read, [ROW.messages[:1], (ROW.messages[0], Message("assistant", "lazy dog"))], [ROW])


def origin(family="smollm", kind="byte_level"):
    return Weights(module(family, vocabulary=600), tokenizer(kind), None, "origin")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_carved_student_is_saved_and_reads_back_the_same(family, tmp_path):
    kind = "byte_fallback" if family in ("phi3", "gemma2", "gemma3") else "byte_level"
    whole = origin(family, kind)
    student = build_student(whole, CarveSpec(layers=3, vocabulary="data"), token_use, tmp_path / "baseline")
    model, read = AutoModelForCausalLM.from_pretrained(student.folder), AutoTokenizer.from_pretrained(student.folder)
    assert type(model) is type(whole.module)
    assert model.config.num_hidden_layers == len(student.layers) == 3
    assert model.config.vocab_size == student.vocabulary == len(student.kept_ids) == len(read)
    assert student.parameters == model.num_parameters() < student.origin_parameters
    for ids, full in zip(token_use(read), token_use(whole.tokenizer), strict=True):
        assert student.kept_ids[ids].tolist() == full
    ids, _ = training_ids(read, ROW.messages, ROW.trained_turns)
    assert torch.isfinite(model(torch.tensor([ids])).logits).all()


def test_the_folder_loads_where_potstill_is_not_installed(tmp_path):
    build_student(origin(), CarveSpec(layers=2, vocabulary="data"), token_use, tmp_path / "baseline")
    code = (
        "import sys; sys.modules['potstill'] = None\n"
        "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T\n"
        f"m, t = (c.from_pretrained({str(tmp_path / 'baseline')!r}) for c in (M, T))\n"
        "ids = t('the quick brown fox', add_special_tokens=False, return_tensors='pt')\n"
        "print(t.decode(ids['input_ids'][0]), len(m.generate(**ids, max_new_tokens=3, do_sample=False)[0]) > 4)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "the quick brown fox True", done.stderr


def test_layers_may_be_carved_with_the_vocabulary_left_as_it_is(tmp_path):
    whole = origin()
    student = build_student(whole, CarveSpec(layers=2), lambda _: pytest.fail("the data is not needed"), tmp_path / "baseline")
    assert (student.layers, student.kept_ids) == ((0, LAYERS - 1), None)
    model, read = AutoModelForCausalLM.from_pretrained(student.folder), AutoTokenizer.from_pretrained(student.folder)
    assert read.get_vocab() == whole.tokenizer.get_vocab()
    assert torch.equal(model.get_input_embeddings().weight, whole.module.get_input_embeddings().weight)


def test_a_student_that_is_not_carved_is_its_origin(tmp_path):
    whole = origin("qwen3")
    student = build_student(whole, None, token_use, tmp_path / "baseline")
    assert student.parameters == student.origin_parameters
    model = AutoModelForCausalLM.from_pretrained(student.folder)
    ids = torch.tensor([prompt_ids(whole.tokenizer, ROW.messages[:1])])
    assert torch.equal(model(ids).logits, whole.module(ids).logits)


@pytest.mark.parametrize("carving", [None, CarveSpec(layers=2), CarveSpec(layers=2, vocabulary="data")])
def test_code_that_a_folder_brought_is_not_named_where_it_was_not_loaded(tmp_path, carving):
    folder = tmp_path / "origin"
    module("phi3", vocabulary=600).save_pretrained(folder)
    tokenizer("byte_fallback").save_pretrained(folder)
    edit_json(folder / "config.json", auto_map={"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"})
    edit_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_phi3.Phi3Tokenizer", None]})
    student = build_student(load_weights(WeightsSpec(model=str(folder), device="cpu")), carving, token_use, tmp_path / "baseline")
    assert AutoModelForCausalLM.from_pretrained(student.folder, trust_remote_code=True).config.model_type == "phi3"
    assert len(AutoTokenizer.from_pretrained(student.folder, trust_remote_code=True)) > 0
    assert not [path.name for path in student.folder.iterdir() if "auto_map" in path.read_bytes().decode(errors="replace")]


def test_too_many_layers_leave_no_folder_behind(tmp_path):
    with pytest.raises(SpecError, match="9 layers are asked for"):
        build_student(origin(), CarveSpec(layers=9), token_use, tmp_path / "baseline")
    assert list(tmp_path.iterdir()) == []


def test_tokens_of_prompts_gold_answers_and_the_teachers_answers_are_kept(tmp_path):
    whole = origin()
    student = build_student(whole, CarveSpec(layers=2, vocabulary="data"), token_use, tmp_path / "baseline")
    kept = set(student.kept_ids.tolist())
    for text in ("number", " number", " lazy dog", " fox"):
        wanted = whole.tokenizer(text, add_special_tokens=False)["input_ids"]
        used = {token for ids in token_use(whole.tokenizer) for token in ids}
        assert set(wanted) & used <= kept
    assert set(whole.module.generation_config.eos_token_id) <= kept


def test_what_is_known_of_a_student_reads_back(tmp_path):
    for carving in (None, CarveSpec(layers=2), CarveSpec(layers=2, vocabulary="data")):
        student = build_student(origin(), carving, token_use, tmp_path / "baseline")
        write_student(student, tmp_path)
        found = read_student(tmp_path)
        assert (found.folder, found.vocabulary, found.layers) == (student.folder, student.vocabulary, student.layers)
        assert (found.parameters, found.origin_parameters) == (student.parameters, student.origin_parameters)
        assert (found.kept_ids is None) == (student.kept_ids is None)
        assert found.kept_ids is None or np.array_equal(found.kept_ids, student.kept_ids)

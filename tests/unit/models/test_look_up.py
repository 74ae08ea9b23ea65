"""What is known of a local model without loading it is what loading finds, and what stands against loading is told beforehand."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from potstill.models.look_up import LocalModel, look_up
from potstill.spec.sections import WeightsSpec
from tiny import edit_json, tiny_gguf, without


@pytest.fixture
def folder(tiny_teacher: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_teacher, tmp_path / "model"))


def look(model: Path | str, **settings: object) -> LocalModel:
    return look_up(WeightsSpec(model=str(model), **settings))  # type: ignore[arg-type]


def test_a_folder_and_its_gguf_file_tell_the_same(tiny_teacher: Path, tmp_path: Path) -> None:
    found = [look(path) for path in (tiny_teacher, tiny_gguf(tmp_path / "tiny.gguf", tiny_teacher))]
    known = [(model.parameters, model.context, model.layers, model.has_template, model.problems, model.notes) for model in found]
    assert known == [(52320.0, 512, 4, True, (), ())] * 2


def test_a_config_of_many_parts_is_read_in_its_text_part(folder: Path) -> None:
    edit_json(folder / "config.json", text_config={"num_hidden_layers": 7, "n_positions": 9})
    assert (look(folder).layers, look(folder).context) == (7, 9)
    edit_json(folder / "config.json", text_config=None)
    assert look(folder).layers == 4


def problem_of(model: Path | str, **settings: object) -> str:
    [problem] = look(model, **settings).problems
    return problem


def test_a_tokenizer_without_a_template_needs_a_file(folder: Path, tmp_path: Path) -> None:
    without(folder, "chat_template.jinja")
    assert "its tokenizer brings no chat template; name a Jinja file" in problem_of(folder)
    (tmp_path / "mine.jinja").write_text("{{ messages }}")
    assert look(folder, chat_template=tmp_path / "mine.jinja").problems == ()
    assert "nosuch.jinja: `chat_template` names this file" in problem_of(folder, chat_template=tmp_path / "nosuch.jinja")
    edit_json(folder / "tokenizer_config.json", chat_template="{{ messages }}")
    assert look(folder).problems == ()


def test_a_device_that_is_not_there_is_a_problem(tiny_teacher: Path) -> None:
    assert 'device "banana" is not to be had here' in problem_of(tiny_teacher, device="banana")


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    found = look(tmp_path / "nowhere", device="banana", chat_template=tmp_path / "nosuch.jinja").problems
    assert [word in problem for word, problem in zip(("nowhere", "banana", "nosuch"), found, strict=True)] == [True] * 3


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("tokenizer.json", "{}", "its tokenizer cannot be loaded: Model missing"),
        ("tokenizer.json", "{", "its tokenizer cannot be loaded: EOF"),
        ("config.json", '{"model_type": "banana"}', "architecture 'banana' is not one"),
        ("config.json", '{"model_type": "llama", "num_hidden_layers": "four"}', '`num_hidden_layers` is "four", must be a whole number'),
        ("model.safetensors", "x" * 100, "model.safetensors: is not a safetensors file"),
    ],
)
def test_damaged_files_are_problems(folder: Path, name: str, text: str, words: str) -> None:
    (folder / name).write_text(text)
    assert words in problem_of(folder)


def test_junk_with_the_name_of_a_gguf_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "j.gguf").write_text("junk")
    assert "j.gguf: is not a GGUF file" in problem_of(tmp_path / "j.gguf")


def cached(cache: Path, teacher: Path, *missing: str) -> None:
    """The teacher as the hub's cache holds a model of which some files did not come yet."""
    repo = cache / "models--org--name"
    without(Path(shutil.copytree(teacher, repo / "snapshots" / "c0ffee")), *missing)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("c0ffee")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "hub"


def test_a_hub_model_in_the_cache_is_known(cache: Path, tiny_teacher: Path) -> None:
    cached(cache, tiny_teacher)
    assert (look("org/name").layers, look("org/name").notes) == (4, ())


@pytest.mark.parametrize("missing", ["tokenizer.json", "config.json", "model.safetensors"])
def test_a_hub_model_that_came_in_part_is_fetched_later_and_no_mistake(cache: Path, tiny_teacher: Path, missing: str) -> None:
    cached(cache, tiny_teacher, missing)
    found = look("org/name")
    assert (found.place, found.problems) == (None, ())
    assert "org/name is not on this machine: layers, tokenizer and chat template are not known" in found.notes[0]


def test_nothing_is_known_of_a_hub_model_that_is_not_there(cache: Path) -> None:
    assert look("org/name").notes
    assert look("phi-4-mini").context == 131072


def test_a_model_that_must_be_fetched_and_may_not_is_a_problem(cache: Path, tiny_teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    cached(cache, tiny_teacher, "tokenizer.json")
    assert "or not all of it, and HF_HUB_OFFLINE forbids" in problem_of("org/name")


def test_without_torch_a_model_is_looked_up_all_the_same(tiny_teacher: Path) -> None:
    code = f"""
import sys
for name in ("torch", "transformers", "tokenizers", "huggingface_hub"):
    sys.modules[name] = None  # as if it were not installed
from potstill.models.look_up import look_up
from potstill.spec.sections import WeightsSpec
for model in ({str(tiny_teacher)!r}, "org/name"):
    found = look_up(WeightsSpec(model=model, device="cuda"))
    print(found.problems, found.layers, *found.notes)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    first, second = said.splitlines()
    assert first.startswith("() 4 local models need torch and transformers, which this Python does not have: pip install")
    assert second.startswith("() None org/name is not on this machine")

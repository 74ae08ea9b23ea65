"""`potstill check`: all problems at once, nothing spent, and a summary when there are none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from potstill.cli.main import app
from potstill.errors import SpecError
from potstill.models.testing import OpenAIStub, answered, refused
from tiny import edit_json, tiny_gguf, tiny_llama, tiny_tokenizer, without

WORDS = [
    "amber",
    "bronze",
    "coral",
    "denim",
    "ebony",
    "fawn",
    "ginger",
    "hazel",
    "ivory",
    "jade",
    "khaki",
    "lilac",
    "mauve",
    "navy",
    "ochre",
    "pearl",
    "ruby",
    "sand",
    "teal",
    "umber",
]


def row(word: str, number: int, **extra: Any) -> dict[str, Any]:
    text = f"Tell me of {word} in {number} words, {word[::-1]}, please."
    return {"messages": [{"role": "user", "content": text}], "reference": ["warm", "cold"][number % 2]} | extra


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, Any]:
    """A spec without a mistake, all of it local; tests spoil it."""
    rows = [row(word, number) for number, word in enumerate(WORDS)]
    for split, part in (("train", rows[:12]), ("validation", rows[12:16]), ("test", rows[16:])):
        write(tmp_path / f"{split}.jsonl", part)
    return {
        "name": "colours",
        "task": {"type": "nli", "labels_from": "data"},
        "data": {split: f"{split}.jsonl" for split in ("train", "validation", "test")},
        "teacher": {"model": "echo"},
        "student": {"model": "smollm2-135m-instruct"},
    }


def check(folder: Path, spec: dict[str, Any], *arguments: str) -> Result:
    path = folder / "potstill.yaml"
    path.write_text(yaml.safe_dump(spec))
    return CliRunner().invoke(app, ["check", str(path), *arguments])


def problems(result: Result) -> list[str]:
    return [line.removeprefix("problem").strip() for line in result.output.splitlines() if line.startswith("problem")]


def test_a_spec_without_a_mistake_is_summed_up(tmp_path: Path, spec: dict[str, Any]) -> None:
    result = check(tmp_path, spec)
    assert result.exit_code == 0, result.output
    assert problems(result) == []
    lines = {line.split()[0]: line for line in result.output.splitlines() if line}
    assert "12 rows, 12 with a reference" in lines["train"]
    assert 'the rarest, "' in lines["labels"]
    assert "about 16 to the teacher" in lines["calls"]
    assert "fetched when it is first used" in lines["student"]


def test_all_problems_are_listed_not_only_the_first(tmp_path: Path, spec: dict[str, Any]) -> None:
    write(tmp_path / "train.jsonl", [row("amber", 0), {"messages": []}, {"messages": "x"}, row("bronze", 1)])
    spec |= {"teacher": {"model": "no-such-teacher"}, "student": {"model": "./no-such-folder"}}
    result = check(tmp_path, spec)
    found = problems(result)
    assert result.exit_code == 1
    assert [sum(word in line for line in found) for word in (".jsonl:2:", ".jsonl:3:", "no-such-teacher", "no-such-folder")] == [1, 1, 1, 1]
    assert f"{len(found)} problems; nothing was spent." in result.output


def test_a_spec_that_cannot_be_read_is_refused_with_all_its_problems(tmp_path: Path, spec: dict[str, Any]) -> None:
    result = check(tmp_path, spec | {"name": "a b", "colour": 1})
    assert isinstance(result.exception, SpecError)
    assert len(str(result.exception).splitlines()) == 2


def test_overrides_reach_the_check(tmp_path: Path, spec: dict[str, Any]) -> None:
    result = check(tmp_path, spec, "--set", "evaluation.metrics=[accuracy, nonsense]")
    [problem] = problems(result)
    assert problem.startswith('there is no metric "nonsense"; there are accuracy, bleu')


def test_an_engine_whose_package_is_missing_is_a_problem(tmp_path: Path, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    [problem] = problems(check(tmp_path, spec, "--set", "engine=ray"))
    assert problem == "`engine: ray` needs the package ray: pip install 'potstill[ray]'"


def test_rows_that_stand_in_train_and_test_are_a_problem(tmp_path: Path, spec: dict[str, Any]) -> None:
    write(tmp_path / "test.jsonl", [row("amber", 0), row("xanadu", 99)])
    result = check(tmp_path, spec)
    assert result.exit_code == 1
    assert "test" in problems(result)[0]


def endpoint(stub: OpenAIStub, **more: Any) -> dict[str, Any]:
    return {"model": "stub", "base_url": stub.base_url} | more


def test_an_endpoint_is_asked_exactly_one_tiny_question(tmp_path: Path, spec: dict[str, Any]) -> None:
    with OpenAIStub() as stub:
        result = check(tmp_path, spec | {"teacher": endpoint(stub)})
        assert result.exit_code == 0, result.output
        assert [call["max_tokens"] for call in stub.calls] == [8]
    assert f"stub at {stub.base_url}, answers" in result.output


def test_offline_asks_nobody(tmp_path: Path, spec: dict[str, Any]) -> None:
    with OpenAIStub(always=refused(401)) as stub:
        result = check(tmp_path, spec | {"teacher": endpoint(stub)}, "--offline")
        assert (result.exit_code, stub.calls) == (0, [])
    assert "not asked (--offline)" in result.output


@pytest.mark.parametrize(("status", "words"), [(401, "401: no"), (404, "check the model name"), (400, "400: no"), (503, "503: no")])
def test_a_teacher_that_does_not_answer_is_a_problem(tmp_path: Path, spec: dict[str, Any], status: int, words: str) -> None:
    with OpenAIStub(always=refused(status)) as stub:
        result = check(tmp_path, spec | {"teacher": endpoint(stub)})
        assert len(stub.calls) == 1
    assert result.exit_code == 1
    assert words in problems(result)[0]


def test_a_teacher_that_thinks_longer_than_the_question_allows_does_answer(tmp_path: Path, spec: dict[str, Any]) -> None:
    with OpenAIStub(always=answered(None, "length", reasoning_content="The user wants")) as stub:
        result = check(tmp_path, spec | {"teacher": endpoint(stub)})
    assert result.exit_code == 0, result.output
    assert f"stub at {stub.base_url}, answers" in result.output


def test_a_key_that_is_not_set_is_a_problem_also_offline(tmp_path: Path, spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENROUTER_API_KEY", raising=False)
    result = check(tmp_path, spec | {"teacher": {"model": "deepseek-v3"}}, "--offline")
    assert "the environment variable OPENROUTER_API_KEY is not set" in problems(result)[0]


def test_the_price_is_counted_where_it_is_known_and_called_unknown_where_not(tmp_path: Path, spec: dict[str, Any]) -> None:
    with OpenAIStub() as stub:
        priced = endpoint(stub, price={"input_per_million": 1e6, "output_per_million": 0})
        known = check(tmp_path, spec | {"teacher": priced})
        unknown = check(tmp_path, spec | {"teacher": endpoint(stub)})
    calls = next(line for line in known.output.splitlines() if line.startswith("calls"))
    read = calls.split(", ")[1].removesuffix(" tokens read")
    assert f"price       about ${read}.00" in known.output
    assert "price       unknown" in unknown.output


def test_a_local_model_is_counted_and_measured_in_its_own_tokens(tmp_path: Path, spec: dict[str, Any]) -> None:
    tiny_llama(tmp_path / "model")
    spec |= {"teacher": {"model": "./model"}, "student": {"carve": {"layers": 2}}, "training": {"max_length": 20}}
    result = check(tmp_path, spec)
    assert "M parameters, on this machine" in result.output
    assert "2 of 4 layers" in result.output
    assert "train: every row is longer than `training.max_length` (20 tokens)" in problems(result)


def test_some_rows_that_are_too_long_are_noted_and_counted(tmp_path: Path, spec: dict[str, Any]) -> None:
    rows = [row(word, number) for number, word in enumerate(WORDS[:12])]
    rows[3]["messages"][0]["content"] += " and so on" * 400
    write(tmp_path / "train.jsonl", rows)
    result = check(tmp_path, spec)
    assert result.exit_code == 0, result.output
    assert "note        train: 1 of 12 rows looked at are longer than `training.max_length` (1,024 tokens, four characters" in result.output


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"student": {"carve": {"layers": 9}}}, "`student.carve.layers` is 9, but"),
        ({"student": {"model": "./other"}, "training": {"objective": "logits"}}, "share a tokenizer"),
    ],
)
def test_models_that_do_not_fit_together_are_a_problem(tmp_path: Path, spec: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    tiny_llama(tmp_path / "model")
    tiny_llama(tmp_path / "other")
    tiny_tokenizer(tmp_path / "other", vocabulary=300)
    result = check(tmp_path, spec | {"teacher": {"model": "./model"}} | changes)
    assert words in "\n".join(problems(result))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training": {"objective": "logits"}}, "needs the teacher's probabilities"),
        ({"student": {"carve": {"layers": 2}}}, "name one in `student.model`"),
    ],
)
def test_what_an_endpoint_cannot_give_is_a_problem(tmp_path: Path, spec: dict[str, Any], changes: dict[str, Any], words: str) -> None:
    result = check(tmp_path, spec | {"teacher": {"model": "gpt-4o"}} | changes, "--offline")
    assert words in "\n".join(problems(result))


def test_a_model_folder_without_a_tokenizer_is_a_problem(tmp_path: Path, spec: dict[str, Any]) -> None:
    without(tiny_llama(tmp_path / "model"), "tokenizer.json")
    result = check(tmp_path, spec | {"student": {"model": "./model"}})
    assert "has no tokenizer" in problems(result)[0]


def test_a_model_folder_without_a_chat_template_is_a_problem_unless_the_spec_names_one(tmp_path: Path, spec: dict[str, Any]) -> None:
    without(tiny_llama(tmp_path / "model"), "chat_template.jinja")
    assert "brings no chat template" in problems(check(tmp_path, spec | {"student": {"model": "./model"}}))[0]
    (tmp_path / "mine.jinja").write_text("{{ messages[0]['content'] }}")
    assert check(tmp_path, spec | {"student": {"model": "./model", "chat_template": "mine.jinja"}}).exit_code == 0
    edit_json(tmp_path / "model" / "tokenizer_config.json", chat_template="{{ messages[0]['content'] }}")
    assert check(tmp_path, spec | {"student": {"model": "./model"}}).exit_code == 0


def test_a_tokenizer_that_cannot_be_loaded_is_a_problem(tmp_path: Path, spec: dict[str, Any]) -> None:
    tokenizer = tiny_llama(tmp_path / "model") / "tokenizer.json"
    layout = json.loads(tokenizer.read_text())
    layout["model"]["merges"] = [["no such", "tokens"]]
    tokenizer.write_text(json.dumps(layout))
    result = check(tmp_path, spec | {"student": {"model": "./model"}})
    assert "model: its tokenizer cannot be loaded" in problems(result)[0]


def test_a_gguf_file_is_measured_and_a_cut_one_is_a_problem(tmp_path: Path, spec: dict[str, Any]) -> None:
    path = tiny_gguf(tmp_path / "model.gguf", tiny_llama(tmp_path / "model"))
    spec |= {"teacher": {"model": "./model.gguf"}, "student": {"carve": {"layers": 2}}}
    assert "2 of 4 layers" in check(tmp_path, spec).output
    path.write_bytes(path.read_bytes()[:-1])
    assert "model.gguf: is cut off" in problems(check(tmp_path, spec))[0]


def test_a_hub_model_that_cannot_be_fetched_is_a_problem(tmp_path: Path, spec: dict[str, Any]) -> None:
    result = check(tmp_path, spec | {"student": {"model": "phi-4-mini"}})
    assert "not on this machine, and HF_HUB_OFFLINE forbids to fetch it" in problems(result)[0]


def test_the_sample_of_init_passes(tmp_path: Path) -> None:
    CliRunner().invoke(app, ["init", str(tmp_path / "mine"), "--sample"])
    result = CliRunner().invoke(app, ["check", str(tmp_path / "mine" / "potstill.yaml")])
    assert result.exit_code == 0, result.output
    assert "36 rows, 36 with a reference" in result.output


def test_checking_a_run_with_a_local_student_imports_no_torch(tmp_path: Path, spec: dict[str, Any]) -> None:
    tiny_llama(tmp_path / "model")
    (tmp_path / "potstill.yaml").write_text(yaml.safe_dump(spec | {"teacher": {"model": "./model"}, "student": {"carve": {"layers": 2}}}))
    code = (
        "import sys; from potstill.cli.main import app\n"
        f"app(['check', {str(tmp_path / 'potstill.yaml')!r}], standalone_mode=False)\n"
        "sys.exit(str({'torch', 'transformers'} & set(sys.modules) or '') or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr

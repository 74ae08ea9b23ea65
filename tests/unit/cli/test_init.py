"""`potstill init`: the spec that it writes loads, says what was answered, and destroys nothing."""

import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from potstill.cli.init import Answers, init, interview, sample_rows, spec_text
from potstill.cli.main import app
from potstill.errors import StoreError, UsageError
from potstill.spec import RunSpec, load_spec


def uncommented(text: str) -> str:
    return "\n".join(re.sub(r"^( *)# (?=\w+:( |$))", r"\1", line) for line in text.splitlines())


@pytest.mark.parametrize("task", ["nli", "conversation", "qa", "math", "summarization", "translation"])
def test_a_written_spec_loads_and_says_what_was_answered(tmp_path: Path, task: str) -> None:
    answers = Answers("mine", task=task, train="rows.csv", validation="", test="", teacher="org/large", student="org/small")
    (tmp_path / "potstill.yaml").write_text(spec_text(answers.sections()))
    spec = load_spec(tmp_path / "potstill.yaml")
    assert (spec.name, spec.task.type, spec.teacher.model, spec.student.model) == ("mine", task, "org/large", "org/small")
    assert spec.data.train == tmp_path / "rows.csv"
    assert spec.data.validation is None


def test_uncommenting_every_default_changes_nothing(tmp_path: Path) -> None:
    text = spec_text(Answers("mine").sections())
    (tmp_path / "as-written.yaml").write_text(text)
    (tmp_path / "uncommented.yaml").write_text(uncommented(text))
    assert uncommented(text) != text
    assert load_spec(tmp_path / "uncommented.yaml") == load_spec(tmp_path / "as-written.yaml")


def test_any_default_may_be_uncommented_alone(tmp_path: Path) -> None:
    lines = spec_text(Answers("mine").sections()).splitlines()
    (tmp_path / "as-written.yaml").write_text("\n".join(lines))
    expected = load_spec(tmp_path / "as-written.yaml")
    commented = [number for number, line in enumerate(lines) if uncommented(line) != line]
    assert len(commented) > 40
    for number in commented:
        alone = [*lines[:number], uncommented(lines[number]), *lines[number + 1 :]]
        (tmp_path / "one.yaml").write_text("\n".join(alone))
        assert load_spec(tmp_path / "one.yaml") == expected, lines[number]


def test_every_explanation_is_whole() -> None:
    text = " ".join(spec_text(Answers("mine").sections()).replace("#", " ").split())
    sections = [field.annotation for field in RunSpec.model_fields.values() if hasattr(field.annotation, "model_fields")]
    described = [field.description for section in sections for field in section.model_fields.values()]
    assert [words for words in described if " ".join(words.split()) not in text] == []


def test_every_key_of_the_spec_stands_in_it_with_a_line_of_explanation() -> None:
    lines = spec_text(Answers("mine").sections()).splitlines()
    for section in (field.annotation for field in RunSpec.model_fields.values()):
        for name in getattr(section, "model_fields", {}):
            assert any(re.match(rf"  (# )?{name}: .*  # \S", line) for line in lines), name


def test_yes_asks_nothing_and_names_the_run_after_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "support intents!"
    result = CliRunner().invoke(app, ["init", str(folder), "--yes"])
    assert result.exit_code == 0, result.output
    assert load_spec(folder / "potstill.yaml").name == "support-intents"


def test_without_a_terminal_the_interview_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--yes"):
        init(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_answers_of_the_interview_are_taken() -> None:
    asking = typer.Typer()
    asking.command()(lambda: typer.echo(interview(Answers("mine"))))
    result = CliRunner().invoke(asking, input="yes\ncooking\nqa\nrows.csv\n\nheld-out.jsonl\n\norg/small\n")
    expected = Answers("mine", "qa", "rows.csv", "", "held-out.jsonl", "deepseek-v3", "org/small")
    assert result.output.splitlines()[-1].endswith(str(expected))


@pytest.mark.parametrize(
    ("typed", "teacher", "student", "layers"),
    [("no\n\n\n", "smollm2-135m-instruct", "", 10), ("no\ngpt-4o\nphi-4-mini\n", "gpt-4o", "phi-4-mini", None)],
)
def test_who_has_no_rows_yet_is_offered_the_sample(typed: str, teacher: str, student: str, layers: int | None) -> None:
    asking = typer.Typer()
    asking.command()(lambda: typer.echo(interview(Answers("mine"))))
    result = CliRunner().invoke(asking, input=typed)
    expected = Answers("mine", teacher=teacher, student=student, carve_layers=layers, sample=True)
    assert result.output.splitlines()[-1].endswith(str(expected))


def test_the_sample_too_is_asked_about_at_a_terminal_unless_yes_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "prompt", lambda text, default, **_: asked.append(text) or default)
    init(tmp_path / "a", sample=True)
    assert [question.split(":")[0] for question in asked] == ["Teacher", "Student"]
    init(tmp_path / "b", sample=True, yes=True)
    assert len(asked) == 2
    assert (tmp_path / "a" / "potstill.yaml").read_text() == (tmp_path / "b" / "potstill.yaml").read_text().replace("name: b", "name: a")


@pytest.mark.parametrize("there", ["potstill.yaml", "test.jsonl"])
def test_nothing_that_is_there_is_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("precious")
    with pytest.raises(UsageError, match=there):
        init(tmp_path, yes=True, sample=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {there: "precious"}


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file, not a folder"):
        init(tmp_path / "file" / "below", yes=True)


def test_the_sample_has_every_label_in_every_split_and_no_prompt_twice() -> None:
    splits = {split: list(sample_rows(split)) for split in ("train", "validation", "test")}
    labels = {split: {row["reference"] for row in rows} for split, rows in splits.items()}
    assert labels["train"] == labels["validation"] == labels["test"]
    assert len(labels["train"]) == 6
    prompts = [row["messages"][-1]["content"] for rows in splits.values() for row in rows]
    assert len(prompts) == len(set(prompts)) == 60


def test_the_sample_is_written_and_its_spec_needs_no_key(tmp_path: Path) -> None:
    init(tmp_path, sample=True)
    spec = load_spec(tmp_path / "potstill.yaml")
    assert spec.teacher.model == "smollm2-135m-instruct"
    assert spec.student.carve is not None
    assert json.loads(spec.data.train.read_text().splitlines()[0])["reference"]

"""A spec is read whole or refused with every problem, its place and what is allowed."""

import json
import re
from pathlib import Path

import pytest

from potstill.errors import SpecError, UsageError
from potstill.spec import RunSpec, TeacherSpec, dump_spec, load_spec, spec_schema

SMALLEST = """\
name: intents
task: {type: nli, labels_from: data}
data: {train: rows/train.jsonl}
teacher: {model: echo}
student: {model: ./student}
"""


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "potstill.yaml"
    path.write_bytes(text.encode(encoding))
    return path


def test_paths_start_at_the_folder_of_the_spec(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, SMALLEST))
    assert spec.data.train == tmp_path / "rows/train.jsonl"
    assert spec.student.model == str(tmp_path / "student")
    assert spec.teacher.model == "echo"


def test_a_dumped_spec_loads_as_itself(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, SMALLEST))
    again = load_spec(write(tmp_path, dump_spec(spec)))
    assert again == spec


def test_a_spec_cannot_be_changed(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, SMALLEST))
    with pytest.raises(ValueError, match="frozen"):
        spec.seed = 1  # type: ignore[misc]


def test_overrides_reach_their_key(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, SMALLEST), ["training.epochs=5", "seed=7", "evaluation.systems=[student]"])
    assert (spec.training.epochs, spec.seed, spec.evaluation.systems) == (5.0, 7, ("student",))


def test_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "potstill.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALLEST.replace("\n", "\r\n").encode())
    assert load_spec(path).name == "intents"


@pytest.mark.parametrize("override", ["training.epochs", "=5", "name.first=x", "seed=[1"])
def test_an_override_that_is_none_is_a_usage_error(tmp_path: Path, override: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        load_spec(write(tmp_path, SMALLEST), [override])


def test_all_problems_are_told_at_once_with_their_lines(tmp_path: Path) -> None:
    text = "name: a b\ntask: {type: chat}\ndata:\n  trian: x\nteacher: {model: echo, temperature: 9}\nstudent: {}\n"
    with pytest.raises(SpecError) as caught:
        load_spec(write(tmp_path, text))
    message = str(caught.value)
    for part in ("yaml:1: `name`", "yaml:2: `task.type`", "did you mean `train`?", "yaml:5: `teacher.temperature`", "yaml:6: `student`"):
        assert part in message, message


def test_every_field_is_described() -> None:
    schema = json.loads(spec_schema())
    bare = [
        f"{name}.{field}"
        for name, section in {**schema["$defs"], "RunSpec": schema}.items()
        for field, value in section["properties"].items()
        if "description" not in value and name not in {"PriceSpec", "RunSpec"}
    ]
    assert bare == []


def test_every_field_is_read_somewhere() -> None:
    source = Path(__file__).parents[3] / "src" / "potstill"
    text = "\n".join(path.read_text() for path in source.rglob("*.py"))
    sections = [RunSpec, *(field.annotation for field in RunSpec.model_fields.values())]
    fields = {name for section in sections for name in getattr(section, "model_fields", {})}
    assert {name for name in fields if f".{name}" not in text} == set(), "a knob that turns nothing"


def of_an_endpoint(setting: str) -> str:
    return SMALLEST.replace("{model: echo}", f"{{model: gpt, base_url: 'http://localhost/v1', {setting}}}")


@pytest.mark.parametrize(
    ("setting", "key", "words"),
    [
        ("api_key_env: sk-hunter2", "api_key_env", "no name of an environment variable"),
        ("api_key_env: 'hunter2 '", "api_key_env", "no name of an environment variable"),
        ("api_key_env: ''", "api_key_env", "no name of an environment variable"),
        ("headers: {Authorization: Bearer hunter2}", "headers", "`Authorization` holds a secret"),
        ("headers: {api-key: hunter2}", "headers", "`api-key` holds a secret"),
        ("headers: {X-Api-Key: hunter2}", "headers", "`X-Api-Key` holds a secret"),
        ("headers: {X-Mine: Bearer hunter2}", "headers", "`X-Mine` holds a secret"),
        ('headers: {X-Mine: "a\\nhunter2: b"}', "headers", "one line of text"),
        ('headers: {"X Mine": hunter2}', "headers", "a header is a name of letters"),
    ],
)
def test_a_secret_in_the_wrong_place_is_refused_and_not_repeated(tmp_path: Path, setting: str, key: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(write(tmp_path, of_an_endpoint(setting)))
    assert f"`teacher.{key}`" in str(caught.value)
    assert words in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["https://me:hunter2@host/v1", "https://hunter2@host/v1", "https://host/v1?key=hunter2", "https://host/v1#hunter2"]
)
def test_an_address_that_carries_a_secret_is_refused_and_not_repeated(tmp_path: Path, address: str) -> None:
    with pytest.raises(SpecError, match=r"`teacher.base_url`: an address holds no user.*`api_key_env`") as caught:
        load_spec(write(tmp_path, SMALLEST), [f"teacher.base_url='{address}'"])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("setting", ["api_key_env: OPENAI_API_KEY", "headers: {X-Title: my tokens, HTTP-Referer: 'https://a/b?c@d'}"])
def test_what_is_no_secret_is_taken(tmp_path: Path, setting: str) -> None:
    load_spec(write(tmp_path, of_an_endpoint(setting)))


def test_pydantics_own_message_does_not_repeat_a_key_either() -> None:
    with pytest.raises(ValueError, match="environment variable") as caught:
        TeacherSpec(model="gpt", api_key_env="sk-hunter2")
    assert "hunter2" not in str(caught.value)


def test_an_engine_is_a_word_or_a_section(tmp_path: Path) -> None:
    assert load_spec(write(tmp_path, SMALLEST)).engine.kind == "local"
    word = load_spec(write(tmp_path, SMALLEST + "engine: ray\n"))
    assert word == load_spec(write(tmp_path, SMALLEST + "engine: {kind: ray}\n"))
    assert (word.engine.address, word.engine.workers) == (None, 2)
    assert load_spec(write(tmp_path, SMALLEST + "engine: {kind: ray, address: 'head:6379'}\n")).engine.address == "head:6379"
    assert json.loads(spec_schema())["properties"]["engine"]["anyOf"][0] == {"enum": ["local", "ray"]}


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("spark", "input should be 'local' or 'ray'"),
        ("{workers: 4}", "`workers` belongs to the engine `ray`"),
        ("{kind: local, address: auto}", "`address` belongs to the engine `ray`"),
        ("{kind: ray, address: 'ray://head:10001'}", "with `auto`"),
        ("{kind: ray, address: head}", "`host:port`"),
        ("ray\ngeneration: {mode: batch}", "take one of the two"),
    ],
)
def test_an_engine_that_is_none_is_refused(tmp_path: Path, engine: str, words: str) -> None:
    with pytest.raises(SpecError, match=re.escape(words)):
        load_spec(write(tmp_path, f"{SMALLEST}engine: {engine}\n"))

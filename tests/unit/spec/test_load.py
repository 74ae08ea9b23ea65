"""A spec is read whole or refused with every problem, its place and what is allowed."""

import json
import operator
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml

from potstill.errors import SpecError, UsageError
from potstill.spec import RunSpec, TeacherSpec, dump_spec, load_data_sections, load_spec, spec_schema
from potstill.spec.sections import Section

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


REFUSED_NUMBERS = [
    ("training.batch_size", ["0", "-3", "2.5", "many"]),
    ("training.learning_rate", ["0", "-1", ".nan", ".inf"]),
    ("training.epochs", ["0", ".inf", ".nan"]),
    ("training.save_minutes", [".inf"]),
    ("training.weight_decay", [".inf"]),
    ("targets.temperature", [".inf"]),
    ("teacher.timeout_s", [".inf"]),
    ("seed", ["-1", "4294967296"]),
    ("evaluation.systems", ["[]", "[judge]"]),
    ("evaluation.metrics", ["[]", "rouge_l"]),
    ("teacher.model", ["''"]),
]


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in REFUSED_NUMBERS for value in values])
def test_a_value_that_means_nothing_is_refused_in_one_line(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(write(tmp_path, SMALLEST), [f"{key}={value}"])
    [line] = str(caught.value).splitlines()
    assert line.startswith(f"--set {key}: `{key}")


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("training.batch_size", "8", 8),
        ("training.batch_size", "auto", "auto"),
        ("training.learning_rate", "1e-4", 1e-4),
        ("seed", "4294967295", 4294967295),
    ],
)
def test_the_edges_of_what_is_allowed_are_allowed(tmp_path: Path, key: str, text: str, value: object) -> None:
    assert operator.attrgetter(key)(load_spec(write(tmp_path, SMALLEST), [f"{key}={text}"])) == value


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ("training: {batch_size: many}", "`training.batch_size`: must be a whole number, or 'auto' (found \"many\")"),
        ("training: {batch_size: 0}", "`training.batch_size`: must be at least 1, or 'auto' (found 0)"),
        ("training: 3", "`training`: must be a section of keys (found 3)"),
        ("evaluation: {systems: student}", '`evaluation.systems`: must be a list, as [one, two] (found "student")'),
        ("generation: {concurrency: yes please}", '`generation.concurrency`: must be a whole number (found "yes please")'),
        ("gates: {format: maybe}", '`gates.format`: must be true or false (found "maybe")'),
    ],
)
def test_a_message_names_keys_of_the_spec_and_nothing_of_python(tmp_path: Path, changed: str, words: str) -> None:
    path = write(tmp_path, f"{SMALLEST}{changed}\n")
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert str(caught.value) == f"{path}:6: {words}"


def test_a_word_that_yaml_takes_for_something_else_is_to_be_quoted(tmp_path: Path) -> None:
    path = write(tmp_path, SMALLEST.replace("labels_from: data", "labels: [yes, other]"))
    with pytest.raises(SpecError, match=r"`task.labels.0`: must be text \(found true\); put it in quotes$"):
        load_spec(path)


def test_a_fault_of_an_override_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, f"{SMALLEST}training:\n  epochs: 2\n")
    with pytest.raises(SpecError) as caught:
        load_spec(path, ["training.epochs=-1", "evaluation={confidence: 7}", "student.model=", "1=2"])
    assert [line.partition(": `")[0] for line in str(caught.value).splitlines()] == [
        f"{path}:5 with --set student.model",
        "--set training.epochs",
        "--set evaluation",
        "--set 1",
    ]


def test_layers_that_learn_from_layers_are_read_and_written_alike(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, f'{SMALLEST}training: {{features: {{layers: {{"0": 3, "10": 23}}}}}}\n'))
    assert spec.training.features.layers == {0: 3, 10: 23}
    assert load_spec(write(tmp_path, dump_spec(spec))) == spec


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ("{hidden: none}", "`training.features`: nothing is matched: set `hidden`, `attention` or `relations`"),
        ("{layers: {}}", "`layers` maps at least one layer"),
        ('{layers: {"-1": 2}}', "counted from 0"),
        ("{layers: {0: 3}}", "the key `0` is not text; quote it"),
        ("{layers: all}", "`training.features.layers`: must be a mapping, as {key: value}, or 'auto' (found \"all\")"),
        ("{relations: [query, output]}", "must be 'query', 'key' or 'value'"),
        ("{relations: [query, query]}", "names each of query, key, value once"),
        ("{added_to: sft}}\ntargets: {positions: all", "`targets.positions: all` needs the teacher's probabilities"),
    ],
)
def test_features_that_match_nothing_are_refused(tmp_path: Path, features: str, words: str) -> None:
    with pytest.raises(SpecError, match=re.escape(words)):
        load_spec(write(tmp_path, f"{SMALLEST}training: {{objective: features, features: {features}}}\n"))


def test_faults_between_sections_are_all_told(tmp_path: Path) -> None:
    text = SMALLEST.replace("{model: echo}", "{model: x, base_url: 'http://x/v1'}").replace("{model: ./student}", "{carve: {layers: 2}}")
    with pytest.raises(SpecError) as caught:
        load_spec(write(tmp_path, f"{text}targets: {{positions: all}}\ntraining: {{objective: sft}}\n"))
    assert [word in str(caught.value) for word in ("carved out of a local model", "needs the teacher's probabilities")] == [True, True]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: x\nseed: " + "1" * 5000, ":2: `111"),
        ("name: x\ntask: &t {type: *t}", ":2: it contains itself"),
        ("name: &l [*l]", ":1: it contains itself"),
        ("name: " + "[" * 5000, "nested too deep"),
        ("1: x", ":1: the key `1` is not text; quote it"),
        ("data: {no: x}", ":1: the key `no` is not text"),
        ("? [a]\n: b", "is not text"),
        ("name: !!timestamp soon", "`soon` cannot be read as timestamp"),
        ("name: !!python/object:os.system x", ":1: could not determine a constructor"),
        ("name: \x00", "special characters are not allowed"),
    ],
)
def test_text_that_yaml_chokes_on_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_spec(write(tmp_path, text))
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_name_may_look_like_a_date(tmp_path: Path) -> None:
    for name in ("2024-01-02", "2024-13-45"):
        assert load_spec(write(tmp_path, SMALLEST), [f"name={name}"]).name == name


def test_a_key_of_a_merged_mapping_may_be_written_again(tmp_path: Path) -> None:
    text = SMALLEST.replace("{model: echo}", "&echo {model: echo}").replace("{model: ./student}", "{<<: *echo, model: ./student}")
    assert load_spec(write(tmp_path, text)).student.model == str(tmp_path / "student")


def test_editors_take_a_section_without_content_too() -> None:
    schema = json.loads(spec_schema())
    assert schema["properties"]["training"]["anyOf"] == [{"$ref": "#/$defs/TrainingSpec"}, {"type": "null"}]
    assert schema["properties"]["task"]["$ref"] == "#/$defs/TaskSpec"


def test_what_may_be_a_secret_is_not_repeated(tmp_path: Path) -> None:
    path = write(tmp_path, SMALLEST)
    for override in ("teacher.api_key_env=[hunter2]", "teacher.headers=hunter2", "teacher.base_url={hunter2: 1}"):
        with pytest.raises(SpecError) as caught:
            load_spec(path, [override])
        assert "hunter2" not in str(caught.value)


def test_a_section_without_content_is_its_defaults(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, f"{SMALLEST}training:\nevaluation:\n"), ["data.columns="])
    assert spec == load_spec(write(tmp_path, SMALLEST))
    with pytest.raises(SpecError, match="`task` is missing; What is asked"):
        load_spec(write(tmp_path, SMALLEST), ["task="])


def test_a_model_that_lies_beside_the_spec_is_a_path_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m" / "tiny").mkdir(parents=True)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text("{}")
    (tmp_path / "phi-4-mini").mkdir()
    monkeypatch.chdir("/")
    path = write(tmp_path, SMALLEST)
    models = ["m/tiny", "bare", "phi-4-mini", "org/name", "x" * 5000]
    found = [load_spec(path, [f"student.model={model}"]).student.model for model in models]
    assert found == [str(tmp_path / "m" / "tiny"), str(tmp_path / "bare"), *models[2:]]


def test_the_name_that_an_endpoint_knows_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "m" / "tiny").mkdir(parents=True)
    path = write(tmp_path, SMALLEST)
    for name in ("m/tiny", "tiny.gguf", "/models/tiny.gguf"):
        assert load_spec(path, [f"teacher.model={name}", "teacher.base_url=http://localhost/v1"]).teacher.model == name


def test_data_sections_are_read_beside_faults_of_others_but_not_with_their_own(tmp_path: Path) -> None:
    faulty = SMALLEST + "training: {epochs: -1}\ncolour: blue\n"
    spec = load_data_sections(write(tmp_path, faulty))
    assert spec is not None
    assert (spec.data.train, spec.task.type) == (tmp_path / "rows/train.jsonl", "nli")
    assert load_data_sections(write(tmp_path, faulty), ["task.type=chat"]) is None
    assert load_data_sections(write(tmp_path, "- x")) is None


def test_every_field_is_described() -> None:
    schema = json.loads(spec_schema())
    bare = [
        f"{name}.{field}"
        for name, section in {**schema["$defs"], "RunSpec": schema}.items()
        for field, value in section["properties"].items()
        if "description" not in value and "$defs" not in str(value)
    ]
    assert bare == []


def sections_of(section: type[Section]) -> Iterator[type[Section]]:
    """A section and all below it."""
    yield section
    for field in section.model_fields.values():
        for found in (field.annotation, *get_args(field.annotation)):
            if isinstance(found, type) and issubclass(found, Section):
                yield from sections_of(found)


def test_every_field_is_read_somewhere() -> None:
    source = Path(__file__).parents[3] / "src" / "potstill"
    text = "\n".join(path.read_text() for path in source.rglob("*.py"))
    fields = {name for section in sections_of(RunSpec) for name in section.model_fields}
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
    teacher = load_spec(write(tmp_path, of_an_endpoint(setting))).teacher
    [(name, value)] = yaml.safe_load(setting).items()
    assert getattr(teacher, name) == value


def test_pydantics_own_message_does_not_repeat_a_key_either() -> None:
    with pytest.raises(ValueError, match="environment variable") as caught:
        TeacherSpec(model="gpt", api_key_env="sk-hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ("{type: objekt}", "`task.answer_schema`: is no JSON Schema: 'objekt' is not valid"),
        ("{$schema: 5}", "`task.answer_schema`: is no JSON Schema: its `$schema` must be text"),
        ("[]", "`task.answer_schema`: must be a mapping"),
        ("{}\n  reasons: true", "`answer_schema` wants JSON alone, and `reasons`"),
        ("{}\ngeneration: {prompting: {strategy: chain_of_thought}}", "`generation.prompting.strategy: chain_of_thought` has more"),
    ],
)
def test_a_schema_of_answers_is_one_and_answers_are_json_alone(tmp_path: Path, schema: str, words: str) -> None:
    text = SMALLEST.replace("task: {type: nli, labels_from: data}", f"task:\n  type: summarization\n  answer_schema: {schema}")
    with pytest.raises(SpecError, match=re.escape(words)):
        load_spec(write(tmp_path, text))


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
        ("spark", "'local' or 'ray'"),
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

"""The catalogue is data that a user can add to, and names lead to models."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from potstill.errors import EndpointError, ModelError, SpecError
from potstill.models.catalogue import entries, find, near_names
from potstill.models.echo import EchoModel
from potstill.models.load import endpoint_of, load_local, load_model, load_teacher
from potstill.models.openai_http import OpenAIModel
from potstill.models.transformers_local import TransformersModel
from potstill.models.weights import is_local
from potstill.spec.sections import GenerationSpec, PriceSpec, TeacherSpec, WeightsSpec
from tiny import tiny_llama


@pytest.fixture
def users_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "catalogue.yaml"
    monkeypatch.setenv("POTSTILL_CATALOGUE", str(path))
    return path


@pytest.mark.parametrize("name", entries())
def test_every_entry_says_where_the_model_is_and_under_what_terms(name: str) -> None:
    entry = entries()[name]
    assert entry.has_weights or entry.base_url
    assert entry.title
    assert entry.licence
    assert entry.distillation
    assert entry.context
    assert set(entry.roles) <= {"teacher", "student"}
    assert entry.roles


@pytest.mark.parametrize("name", entries())
def test_a_price_carries_its_day_and_source(name: str) -> None:
    price = entries()[name].price
    if price.input_per_million is not None:
        assert price.output_per_million is not None
        assert price.as_of
        assert price.source


@pytest.mark.parametrize("name", [name for name, entry in entries().items() if "student" in entry.roles])
def test_every_student_can_be_trained_here(name: str) -> None:
    entry = entries()[name]
    assert entry.has_weights
    assert hasattr(transformers, str(entry.architecture))


@pytest.mark.parametrize(
    "name",
    [
        "deepseek-v3",
        "llama-3.1-405b-instruct",
        "gpt-4.1",
        "claude-sonnet",
        "phi-4-mini",
        "phi-3.5-mini",
        "phi-3-mini-4k",
        "phi-3-mini-128k",
    ],
)
def test_the_usual_names_are_known(name: str) -> None:
    assert find(name) is not None


def test_a_users_entry_is_added_and_takes_the_place_of_a_shipped_one_as_a_whole(users_file: Path) -> None:
    users_file.write_text("mine: {path: model}\ndeepseek-v3: {base_url: 'http://127.0.0.1:9/v1', api_model: small}\n")
    mine, replaced = find("mine"), find("deepseek-v3")
    assert mine is not None
    assert mine.path == users_file.parent / "model"
    assert replaced is not None
    assert (replaced.api_model, replaced.api_key_env) == ("small", None)
    assert find("phi-4-mini") is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", r"a catalogue is a mapping of names to entries"),
        ("a: [\n", r"catalogue.yaml:2: not YAML"),
        ("a: {path: x}\nb: !!timestamp 2024-13-45\n", r"catalogue.yaml:2: `2024-13-45` cannot be read as timestamp"),
        ("a: {path: x}\n7: {path: x}\n", r"catalogue.yaml:2: the key `7` is not text"),
        ("a: &x [*x]\n", r"catalogue.yaml:1: it contains itself"),
        ("a: {pth: x}\n", r"`a.pth` is not a key; allowed: .*path"),
        ("a: {title: x}\n", r"`a`: says nowhere where the model is"),
        ("a: {base_url: 'http://x/v1'}\n", r"`a`: has a `base_url` but no `api_model`"),
        ("a: {path: x, context: 0}\n", r"`a.context`: input should be greater"),
    ],
)
def test_a_bad_catalogue_is_refused_with_file_and_key(text: str, message: str, users_file: Path) -> None:
    users_file.write_text(text)
    with pytest.raises(SpecError, match=message):
        entries()


@pytest.mark.parametrize(
    ("written", "read"),
    [("2026-10-01", "2026-10-01"), ("2026-10", "2026-10"), ("2026", "2026"), ("'May'", "May"), ("2024-13-45", "2024-13-45")],
)
def test_the_day_of_a_price_may_be_written_as_yaml_has_it(written: str, read: str, users_file: Path) -> None:
    price = f"{{input_per_million: 1, output_per_million: 2, as_of: {written}}}"
    users_file.write_text(f"a: {{base_url: 'http://x/v1', api_model: a, price: {price}}}\n")
    entry = find("a")
    assert entry is not None
    assert entry.price.as_of == read


def test_a_missing_catalogue_is_named(users_file: Path) -> None:
    with pytest.raises(SpecError, match=r"POTSTILL_CATALOGUE names this file"):
        entries()


def test_a_mistyped_name_gets_the_near_ones() -> None:
    assert near_names("phi4-mini")[0] == "phi-4-mini"
    with pytest.raises(ModelError, match=r'model "phi4-mini" is not known; did you mean phi-4-mini.*Allowed: a name of the catalogue'):
        load_model("phi4-mini")


def test_a_hub_model_that_cannot_be_reached_says_what_else_there_is() -> None:
    with pytest.raises(ModelError, match=r"microsoft/Phi-4-mini-instruct: is not on this machine, and the model hub cannot be reached"):
        load_local(WeightsSpec(model="phi-4-mini"))


def test_an_endpoint_without_weights_cannot_be_trained() -> None:
    with pytest.raises(ModelError, match=r"gpt-4.1: is an endpoint .*without public weights"):
        load_local(WeightsSpec(model="gpt-4.1"))


def test_a_catalogue_name_may_stand_for_a_folder(users_file: Path, tmp_path: Path) -> None:
    tiny_llama(tmp_path / "model")
    users_file.write_text("phi-4-mini: {path: model}\n")
    model = load_model("phi-4-mini")
    assert isinstance(model, TransformersModel)
    assert model.name == "phi-4-mini"


@pytest.mark.parametrize(
    ("spec", "local"),
    [
        ({"model": "phi-4-mini"}, True),
        ({"model": "/some/folder"}, True),
        ({"model": "org/name"}, True),
        ({"model": "deepseek-v3"}, False),
        ({"model": "echo"}, False),
        ({"model": "anything", "base_url": "http://127.0.0.1:9/v1"}, False),
    ],
)
def test_is_local_tells_weights_from_endpoints(spec: dict[str, str], local: bool) -> None:
    assert is_local(TeacherSpec(**spec)) is local  # type: ignore[arg-type]


def test_echo_is_a_teacher() -> None:
    assert isinstance(load_teacher(TeacherSpec(model="echo"), GenerationSpec()), EchoModel)


def test_the_catalogue_fills_in_address_name_key_and_price() -> None:
    spec = endpoint_of(TeacherSpec(model="gpt-4.1"))
    assert (spec.base_url, spec.model, spec.api_key_env) == ("https://api.openai.com/v1", "gpt-4.1", "OPENAI_API_KEY")
    assert spec.price == PriceSpec(input_per_million=2.0, output_per_million=8.0)


def test_the_spec_wins_over_the_catalogue() -> None:
    price = PriceSpec(input_per_million=1.0, output_per_million=1.0)
    spec = endpoint_of(TeacherSpec(model="gpt-4.1", api_key_env="MINE", price=price))
    assert (spec.api_key_env, spec.price) == ("MINE", price)


def test_an_unset_key_is_named_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(EndpointError, match=r"the environment variable OPENAI_API_KEY is not set"):
        load_model("gpt-4.1")


def test_an_endpoint_that_takes_no_temperature_is_not_sent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")
    assert not load_model("claude-sonnet-5").capabilities.sampling
    assert load_model("claude-sonnet").capabilities.sampling


def test_a_url_needs_the_models_name() -> None:
    with pytest.raises(ModelError, match=r'which model there\? load_model\("http://x/v1", model="its name"\)'):
        load_model("http://x/v1")
    assert isinstance(load_model("http://x/v1", model="m"), OpenAIModel)


def test_a_key_in_the_place_of_its_variables_name_is_refused_and_not_repeated() -> None:
    with pytest.raises(ModelError, match=r"`api_key_env`: what stands there is no name of an environment variable") as caught:
        load_model("http://x/v1", model="m", api_key_env="sk-hunter2")
    assert "hunter2" not in str(caught.value)


def test_looking_things_up_imports_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, potstill.models.load, potstill.models.weights; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

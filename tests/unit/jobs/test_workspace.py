"""Which workspace a client opens, and what its config changes."""

import json
import os
from pathlib import Path

import pytest

from potstill.errors import SpecError
from potstill.jobs.workspace import find_config, open_workspace
from potstill.models.catalogue import find


def write(path: Path, config: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config))
    return path


def test_without_a_config_the_workspace_is_a_folder_of_the_working_folder(tmp_path: Path) -> None:
    assert open_workspace(tmp_path).folder == tmp_path / "potstill-workspace"
    assert (tmp_path / "potstill-workspace" / "jobs").is_dir()


@pytest.mark.parametrize("name", ["potstill.json", "config.json"])
def test_the_nearest_config_above_the_working_folder_counts(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, {"workspace_folder": "far"})
    near = write(tmp_path / "a" / name, {"workspace_folder": "near"})
    below = tmp_path / "a" / "b" / "c"
    below.mkdir(parents=True)
    assert find_config(below) == near
    assert open_workspace(below).folder == tmp_path / "a" / "near"


def test_a_models_config_json_is_not_mistaken_for_ours(tmp_path: Path) -> None:
    write(tmp_path / "config.json", {"architectures": ["LlamaForCausalLM"]})
    assert find_config(tmp_path) is None


def test_azures_own_config_is_taken_as_it_is(tmp_path: Path) -> None:
    write(tmp_path / "config.json", {"subscription_id": "s", "resource_group": "r", "workspace_name": "w"})
    assert open_workspace(tmp_path).folder == tmp_path / "potstill-workspace"


@pytest.mark.parametrize(
    ("text", "words"),
    [('{"workspace_folder": "w", "colour": 1}', "`colour`.*\nallowed keys: workspace_folder"), ("{", "is not JSON"), ("[]", "should be")],
)
def test_a_config_that_cannot_be_is_explained(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "potstill.json").write_text(text)
    with pytest.raises(SpecError, match=words):
        open_workspace(tmp_path)


def test_a_catalogue_entry_that_cannot_be_is_told_when_the_workspace_opens(tmp_path: Path) -> None:
    write(tmp_path / "potstill.json", {"catalogue": {"phi-4-mini": {"paht": "x"}}})
    with pytest.raises(SpecError, match=r"`phi-4-mini.paht` is not a key"):
        open_workspace(tmp_path)


def test_a_config_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no such config file"):
        open_workspace(tmp_path / "missing.json")


def test_names_of_the_workspace_hold_inside_its_block_alone(tmp_path: Path) -> None:
    write(tmp_path / "potstill.json", {"catalogue": {"phi-4-mini": {"path": "models/tiny"}}})
    workspace = open_workspace(tmp_path)
    with workspace.names():
        entry = find("phi-4-mini")
        assert entry is not None
        assert entry.path == tmp_path / "models" / "tiny"
    entry = find("phi-4-mini")
    assert entry is not None
    assert entry.path is None


def test_an_earlier_catalogue_of_the_environment_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("z: {path: z}")
    monkeypatch.setenv("POTSTILL_CATALOGUE", str(tmp_path / "mine.yaml"))
    write(tmp_path / "potstill.json", {"catalogue": {"x": {"path": "y"}}})
    workspace = open_workspace(tmp_path)
    with workspace.names():
        assert os.environ["POTSTILL_CATALOGUE"] == str(workspace.catalogue)
    assert os.environ["POTSTILL_CATALOGUE"] == str(tmp_path / "mine.yaml")
    assert workspace.environment()["POTSTILL_CATALOGUE"] == str(workspace.catalogue)

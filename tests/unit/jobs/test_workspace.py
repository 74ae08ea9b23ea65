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


FOREIGN = [
    {"architectures": ["LlamaForCausalLM"]},
    {"settings": {"theme": "dark"}},
    {"subscription_id": "s", "tenant": "t"},
    {"resource_group": "r", "workspace_name": "w"},
    ["workspace_folder"],
]


@pytest.mark.parametrize("config", FOREIGN)
def test_another_programs_config_json_is_not_mistaken_for_ours(tmp_path: Path, config: object) -> None:
    write(tmp_path / "config.json", config)
    assert find_config(tmp_path) is None
    assert open_workspace(tmp_path).folder == tmp_path / "potstill-workspace"


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


def test_the_users_own_catalogue_goes_on_to_hold_behind_the_workspaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = tmp_path / "home" / "mine.yaml"
    users.parent.mkdir()
    users.write_text("z: {path: z}\nx: {path: hidden}")
    monkeypatch.setenv("POTSTILL_CATALOGUE", str(users))
    write(tmp_path / "potstill.json", {"catalogue": {"x": {"path": "y"}}})
    workspace = open_workspace(tmp_path)
    of_a_worker = workspace.environment()["POTSTILL_CATALOGUE"]
    with workspace.names():
        paths = {name: entry.path for name in "xz" if (entry := find(name)) is not None}
        assert os.environ["POTSTILL_CATALOGUE"] == of_a_worker
    assert paths == {"x": tmp_path / "y", "z": users.parent / "z"}
    assert os.environ["POTSTILL_CATALOGUE"] == str(users)

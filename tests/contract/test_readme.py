"""The README's map is the tree's, and its names exist."""

import re
from pathlib import Path

import yaml

import potstill
from potstill.spec import RunSpec

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_map_of_folders_is_the_tree() -> None:
    mapped = set(re.findall(r"^\| `((?:src/potstill/)?[a-z]+)` \|", README, flags=re.MULTILINE))
    packages = {str(path.parent.relative_to(ROOT)) for path in (ROOT / "src" / "potstill").glob("*/__init__.py")}
    others = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")} - {"src", "runs", "build"}
    others = {name for name in others if not name.startswith("potstill-")}
    assert mapped == packages | others


def test_every_name_that_the_readme_calls_exists() -> None:
    assert [name for name in re.findall(r"potstill\.([a-z_]+)\(", README) if not hasattr(potstill, name)] == []


def test_the_spec_in_the_readme_is_one() -> None:
    block = re.search(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    assert block is not None
    RunSpec.model_validate(yaml.safe_load(block.group(1)))


def test_every_link_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert [target for target in targets if not target.startswith("http") and not (ROOT / target).exists()] == []


def test_all_recipes_load() -> None:
    specs = sorted((ROOT / "recipes").rglob("*.yaml"))
    assert specs
    for path in specs:
        RunSpec.model_validate(yaml.safe_load(path.read_text()))


def test_the_specs_in_the_guide_to_generation_are_ones() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "generation.md").read_text(), flags=re.DOTALL)
    assert blocks
    rest = {"name": "n", "task": {"type": "nli", "labels": ["a", "b"]}, "data": {"train": "t"}, "student": {"model": "s"}}
    for block in blocks:
        shown = yaml.safe_load(block)
        RunSpec.model_validate(rest | ({} if "teachers" in shown else {"teacher": {"model": "t"}}) | shown)


def test_the_specs_in_the_guide_to_evaluation_are_ones() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "evaluation.md").read_text(), flags=re.DOTALL)
    assert blocks
    rest = {"name": "n", "data": {"train": "t"}, "teacher": {"model": "t"}, "student": {"model": "s"}}
    labels = {"type": "nli", "labels": ["a", "b"]}
    for block in blocks:
        task = {"type": "summarization"} if "judge:" in block else labels
        RunSpec.model_validate(rest | {"task": task} | yaml.safe_load(block))

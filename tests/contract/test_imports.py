"""Imports point one way, none in a circle, and the light parts stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "potstill"

# Left may import right; packages of one rank are strangers to each other.
RANKS = [
    {"__main__"},
    {"cli"},
    {"__init__"},
    {"library", "ml", "demo"},
    {"jobs"},
    {"pipeline"},
    {"generation", "training", "evaluation", "export", "report", "serving"},
    {"models", "tasks", "data"},
    {"store"},
    {"spec"},
    {"records"},
    {"errors"},
]
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
STRANGERS_MAY = {("data", "tasks"), ("models", "data"), ("ml", "library"), ("demo", "library"), ("generation", "gates")}


def package_of(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("potstill"):
            names = [f"{node.module}.{alias.name}" for alias in node.names] if node.module == "potstill" else [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("potstill")]
        found |= {name.split(".")[1] for name in names if "." in name}
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_one_way(path: Path) -> None:
    here = package_of(path)
    for there in imports_of(path) - {here, "__version__"}:
        assert there in RANK, f"{path}: unknown package {there}: give it a rank here"
        allowed = RANK[there] > RANK[here] or (here, there) in STRANGERS_MAY
        assert allowed, f"{path}: {here} may not import {there}"


def test_losses_import_torch_alone() -> None:
    for path in (SOURCE / "training" / "losses").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                root = (node.module or "").split(".")[0]
                assert root in {"torch", "__future__", "collections", "typing", "math"} or (node.module or "").startswith(
                    "potstill.training.losses"
                ), path
            elif isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= {"torch", "math"}, path


@pytest.mark.parametrize(
    "module",
    ["potstill", "potstill.cli.main", "potstill.spec", "potstill.store.run", "potstill.models.base", "potstill.ml", "potstill.cli.examine"],
)
def test_light_modules_import_no_torch(module: str) -> None:
    code = f"import sys, {module}; heavy = {{'torch', 'transformers'}} & set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr

"""Imports point one way, none in a circle, and the light parts stay light."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
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
    {"verdicts"},
    {"records"},
    {"errors"},
]
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
STRANGERS_MAY = {
    ("data", "tasks"),  # what a row must hold, its task says
    ("tasks", "models"),  # how a teacher or a judge is talked to about a task
}


def module_name(path: Path) -> str:
    parts = ("potstill", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imported_names(tree: ast.AST, package: str, *, for_types: bool) -> Iterator[str]:
    """Everything that is imported anywhere in a module, functions included; relative names made absolute."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING") and not for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            here = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*here, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        yield from imported_names(node, package, for_types=for_types)


def imports_of(name: str, *, for_types: bool = True) -> set[str]:
    """The modules of Potstill that a module imports; `for_types` counts what only a type checker reads, too."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    names = imported_names(ast.parse(path.read_text()), package, for_types=for_types)
    ours = {found for found in names if found.split(".")[0] == "potstill" and found != "potstill.__version__"}
    return {found if found in MODULES else found.rpartition(".")[0] for found in ours} - {name}


def package_of(name: str) -> str:
    return [*name.split("."), "__init__"][1]


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_one_way(name: str) -> None:
    here = package_of(name)
    for there in {package_of(found) for found in imports_of(name)} - {here}:
        assert there in RANK, f"{name}: unknown package {there}: give it a rank here"
        assert RANK[there] > RANK[here] or (here, there) in STRANGERS_MAY, f"{name}: {here} may not import {there}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {name: imports_of(name, for_types=False) for name in MODULES}
    in_order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert set(MODULES) <= set(in_order)


RELATIVE = [
    ("from . import b", "a.b"),
    ("from .b import c", "a.b.c"),
    ("from .. import b", "b"),
    ("import x.y", "x.y"),
    ("def f():\n    from x import y", "x.y"),
    ("if TYPE_CHECKING:\n    import x\nimport y", "y"),
]


@pytest.mark.parametrize(("text", "found"), RELATIVE)
def test_every_way_to_import_is_seen(text: str, found: str) -> None:
    package = "a" if ".." not in text else "a.z"
    expected = found if ".." not in text else f"a.{found}"
    assert list(imported_names(ast.parse(text), package, for_types=False)) == [expected]


def test_losses_import_torch_alone() -> None:
    for path in (SOURCE / "training" / "losses").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                root = (node.module or "").split(".")[0]
                assert root in {"torch", "__future__", "collections", "functools", "math", "typing"} or (node.module or "").startswith(
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

"""The demo's job: summarise Python documentation, learnt from the standard library of the interpreter that runs it.

A docstring is a summary line and a body (PEP 257), so every Python installation holds over a thousand real pairs of a text and
its one-sentence summary: data that needs no download, and that differs a little from one Python version to the next.
"""

from __future__ import annotations

import ast
import random
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from potstill.errors import DataError
from potstill.records import Example, Message
from potstill.store.atomic import write_jsonl, write_text

TEACHER = "smollm2-135m-instruct"

_NOT_DOCUMENTATION = {"test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages"}
_PROMPT = "Summarize in one short sentence:\n\n"
_SPEC = """\
# Distil the documentation summariser: `potstill run {name}`
name: python-docs
task: {{type: summarization, max_new_tokens: 40}}
data: {{train: data/train.jsonl, validation: data/validation.jsonl, test: data/test.jsonl, test_duplicates: drop}}
teacher: {{model: {teacher}}}
student:
  carve: {{layers: {layers}, vocabulary: data}}   # cut out of the teacher
targets: {{positions: all}}                       # learn from the teacher's probabilities on every token
training: {{epochs: {epochs}, batch_size: 8, learning_rate: {learning_rate}, evaluations: 2, validation_rows: {validation}}}
evaluation: {{latency_rows: {latency_rows}}}
seed: 0
"""


@dataclass(frozen=True, slots=True)
class DemoSize:
    """How much of everything: chosen so that two CPU cores need well under ten minutes."""

    train: int = 240
    validation: int = 24
    test: int = 80
    layers: int = 20
    epochs: float = 3
    learning_rate: float = 6e-4
    latency_rows: int = 12


def write_demo(folder: Path, size: DemoSize | None = None, *, teacher: str = TEACHER, library: Path | None = None) -> Path:
    """Write data and spec of the demo into `folder`; returns the spec's path. The same interpreter gives the same files."""
    size = size or DemoSize()
    splits = _split(list(docstring_pairs(library)), {"test": size.test, "validation": size.validation, "train": size.train})
    for name, rows in splits.items():
        write_jsonl(folder / "data" / f"{name}.jsonl", (row.to_json() for row in rows))
    spec = folder / "potstill.yaml"
    settings = {name: getattr(size, name) for name in ("layers", "epochs", "learning_rate", "validation", "latency_rows")}
    write_text(spec, _SPEC.format(name=spec.name, teacher=teacher, **settings))
    return spec


def docstring_pairs(library: Path | None = None) -> Iterator[Example]:
    """Body and summary line of each suited docstring in the standard library, as rows grouped by module.

    Suited: a summary of one sentence (20–120 characters, ending in a full stop) over a body of 80–300 characters without
    doctests. The source is parsed, never imported. A body that stands twice is taken once.
    """
    library = library or Path(sysconfig.get_path("stdlib"))
    seen: set[str] = set()
    for path in sorted(library.rglob("*.py")):
        module = path.relative_to(library)
        if _NOT_DOCUMENTATION.intersection(module.parts):
            continue
        for name, text in _docstrings(path):
            summary, _, body = text.partition("\n\n")
            summary, body = " ".join(summary.split()), body.strip()
            if body in seen or not _suited(summary, body):
                continue
            seen.add(body)
            identity = f"{module.with_suffix('').as_posix().replace('/', '.')}.{name}-{len(seen)}"
            yield Example(identity, (Message("user", _PROMPT + body),), reference=(summary,), group=module.as_posix())


def _docstrings(path: Path) -> Iterator[tuple[str, str]]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):  # some files of the library are broken on purpose
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node.name, text


def _suited(summary: str, body: str) -> bool:
    return 20 <= len(summary) <= 120 and summary.endswith(".") and 80 <= len(body) <= 300 and ">>>" not in body


def _split(rows: list[Example], sizes: dict[str, int]) -> dict[str, list[Example]]:
    """Whole modules at random into each split until it is full; the last module of a split is cut to size."""
    if len(rows) < sum(sizes.values()):
        raise DataError(
            f"the standard library of this Python has {len(rows):,} suited docstrings, the demo needs {sum(sizes.values()):,}: "
            "its source files seem to be stripped; use a Python that brings them"
        )
    modules: dict[str, list[Example]] = {}
    for row in rows:
        modules.setdefault(row.group or "", []).append(row)
    order = sorted(modules)
    random.Random(0).shuffle(order)
    splits: dict[str, list[Example]] = {}
    for name, size in sizes.items():
        taken: list[Example] = []
        while len(taken) < size and order:
            taken += modules[order.pop()]
        splits[name] = taken[:size]
    return splits

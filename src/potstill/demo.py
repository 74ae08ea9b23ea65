"""The demo's job: summarise Python documentation, learnt from the standard library of the interpreter that runs it.

A docstring is a summary line and a body (PEP 257), so every Python installation holds real pairs of a text and its one-sentence
summary: 989 that are suited in Python 3.11.7, of which the demo takes 344. They need no download, and differ a little from one Python
version to the next.
"""

from __future__ import annotations

import ast
import hashlib
import json
import random
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from potstill.errors import DataError, StoreError
from potstill.records import Example, Message
from potstill.store.atomic import fingerprint, hash_file, read_object, write_json, write_text

TEACHER = "smollm2-135m-instruct"
SPEC_NAME = "potstill.yaml"

_SPLITS = ("train", "validation", "test")
_FILES = (*(f"data/{split}.jsonl" for split in _SPLITS), SPEC_NAME)
_RECORD = ".potstill-demo.json"

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
evaluation: {{latency_rows: {latency_rows}, concurrency: [1, 8]}}
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
    """Write data and spec of the demo into `folder`; returns the spec's path. The same interpreter gives the same files.

    Files of the demo that were edited since are kept as they are: `edited_files` names them. Raises StoreError, and writes nothing,
    where a file of that name is there that the demo never wrote.
    """
    size = size or DemoSize()
    made_from = fingerprint([asdict(size), teacher, str(library), sys.version])
    record = _read_record(folder)
    if record["made_from"] != made_from or not all((folder / name).exists() for name in _FILES):
        texts = _texts(size, teacher, library)
        _refuse_others_files(folder, texts)
        written = sorted({*record["written"], *map(_digest, texts.values())})
        # On record before they are there: what a killed attempt wrote is known as the demo's.
        write_json(folder / _RECORD, {"made_from": made_from, "written": written})
        edited = edited_files(folder)
        for name in _FILES:
            if name not in edited:
                write_text(folder / name, texts[name])
    return folder / SPEC_NAME


def edited_files(folder: Path) -> list[str]:
    """The demo's files in `folder` that are not as the demo wrote them."""
    written = _read_record(folder)["written"]
    return [name for name in _FILES if (folder / name).exists() and hash_file(folder / name) not in written]


def _refuse_others_files(folder: Path, texts: Mapping[str, str]) -> None:
    if (folder / _RECORD).exists():
        return
    for name, text in texts.items():
        if (folder / name).exists() and hash_file(folder / name) != _digest(text):
            raise StoreError(f"{folder / name}: is there already, and not the demo's: name another folder with `--folder`, or remove it")


def _read_record(folder: Path) -> dict[str, Any]:
    """What the demo's files were made from, and the hashes of all that it ever wrote into `folder`."""
    path = folder / _RECORD
    return read_object(path, "made_from", "written") if path.exists() else {"made_from": "", "written": []}


def _texts(size: DemoSize, teacher: str, library: Path | None) -> dict[str, str]:
    rows = _split(list(docstring_pairs(library)), {"test": size.test, "validation": size.validation, "train": size.train})
    texts = {
        f"data/{split}.jsonl": "".join(json.dumps(row.to_json(), ensure_ascii=False) + "\n" for row in rows[split]) for split in _SPLITS
    }
    settings = {name: getattr(size, name) for name in ("layers", "epochs", "learning_rate", "validation", "latency_rows")}
    return {**texts, SPEC_NAME: _SPEC.format(name=SPEC_NAME, teacher=teacher, **settings)}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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

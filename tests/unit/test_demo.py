"""The demo's rows come from this Python's own documentation, and its spec is one."""

import email
import json
from pathlib import Path

import pytest

from potstill.data.inspect import inspect_data
from potstill.demo import DemoSize, docstring_pairs, edited_files, write_demo
from potstill.errors import DataError, StoreError
from potstill.spec import load_spec

SMALL = DemoSize(train=20, validation=5, test=8)
LIBRARY = Path(email.__file__).parent


def test_a_row_asks_for_the_summary_line_of_a_docstring(tmp_path: Path) -> None:
    body = "It goes through all of them in turn, and leaves out those that are hidden or locked by others."
    source = f'def walk():\n    """Visit every\n    folder of the tree.\n\n    {body}\n    """\n\ndef bare():\n    """Too short, without a body."""\n'
    (tmp_path / "walks.py").write_text(source)
    (tmp_path / "broken.py").write_text("def (")
    (row,) = docstring_pairs(tmp_path)
    assert row.reference == ("Visit every folder of the tree.",)
    assert row.messages[0].content.endswith(body)
    assert row.group == "walks.py"


def test_this_python_brings_enough_rows_for_the_demo() -> None:
    size = DemoSize()
    assert len(list(docstring_pairs())) >= size.train + size.validation + size.test


def test_no_module_stands_in_two_splits_and_no_row_in_two_forms(tmp_path: Path) -> None:
    spec = load_spec(write_demo(tmp_path, SMALL, library=LIBRARY))
    splits = {name: (tmp_path / "data" / f"{name}.jsonl").read_text().splitlines() for name in ("train", "validation", "test")}
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 20, "validation": 5, "test": 8}
    modules = [{json.loads(row)["group"] for row in rows} for rows in splits.values()]
    assert sum(map(len, modules)) == len(set.union(*modules))
    assert inspect_data(spec).problems == ()


def test_the_same_python_writes_the_same_files(tmp_path: Path) -> None:
    write_demo(tmp_path / "a", SMALL, library=LIBRARY)
    write_demo(tmp_path / "b", SMALL, library=LIBRARY)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 5
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


def test_a_python_without_docstrings_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="suited docstrings"):
        write_demo(tmp_path, DemoSize(), library=tmp_path)


def texts(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*.*")) if path.is_file()}


def test_a_second_time_nothing_is_written(tmp_path: Path) -> None:
    write_demo(tmp_path, SMALL, library=LIBRARY)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    write_demo(tmp_path, SMALL, library=LIBRARY)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert edited_files(tmp_path) == []


@pytest.mark.parametrize("name", ["potstill.yaml", "data/train.jsonl", "data/test.jsonl"])
def test_a_file_that_the_demo_never_wrote_is_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / name).write_text("mine")
    with pytest.raises(StoreError, match=f"{name}: is there already, and not the demo's: name another folder"):
        write_demo(tmp_path, SMALL, library=LIBRARY)
    assert texts(tmp_path) == {name: "mine"}


@pytest.mark.parametrize("second", [SMALL, DemoSize(train=25, validation=5, test=8)])
def test_an_edited_file_is_kept_and_named(tmp_path: Path, second: DemoSize) -> None:
    write_demo(tmp_path, SMALL, library=LIBRARY)
    (tmp_path / "potstill.yaml").write_text("mine")
    write_demo(tmp_path, second, library=LIBRARY)
    assert (tmp_path / "potstill.yaml").read_text() == "mine"
    assert len((tmp_path / "data" / "train.jsonl").read_text().splitlines()) == second.train
    assert edited_files(tmp_path) == ["potstill.yaml"]


def test_a_removed_file_comes_back(tmp_path: Path) -> None:
    write_demo(tmp_path, SMALL, library=LIBRARY)
    before = texts(tmp_path)
    (tmp_path / "potstill.yaml").write_text("mine")
    for name in ("potstill.yaml", "data/test.jsonl"):
        (tmp_path / name).unlink()
    write_demo(tmp_path, SMALL, library=LIBRARY)
    assert texts(tmp_path) == before


def test_files_of_another_size_are_the_demos_own_and_are_replaced(tmp_path: Path) -> None:
    for size in (SMALL, DemoSize(train=25, validation=5, test=8), SMALL):
        write_demo(tmp_path, size, library=LIBRARY)
        assert len((tmp_path / "data" / "train.jsonl").read_text().splitlines()) == size.train
        assert edited_files(tmp_path) == []

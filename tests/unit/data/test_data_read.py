"""Files of every format are read alike, and every way in which a file is bad has its message."""

from __future__ import annotations

import json
import os
import struct
import sys
from pathlib import Path

import pytest
from rows_at_hand import chat, write_jsonl

from potstill.data.dataset import Dataset, DatasetWriter, load_dataset
from potstill.data.read import scan_rows
from potstill.data.rows import RowProblem
from potstill.errors import DataError, StoreError
from potstill.records import Example, Message
from potstill.spec import ColumnsSpec

GOOD = b'{"prompt": "Why?"}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"", "a.jsonl: is empty; one row a line is expected"),
        ("a.jsonl", b"\n\n", "a.jsonl: is empty"),
        ("a.jsonl", GOOD + b"\n" + GOOD, "a.jsonl:2: is blank; remove the line"),
        ("a.jsonl", GOOD + b'{"prompt": \n', "a.jsonl:2: is not JSON: Expecting value at column"),
        ("a.jsonl", GOOD + b"17\n", "a.jsonl:2: is a number, must be an object"),
        ("a.jsonl", GOOD + b'["x"]\n', "a.jsonl:2: is a list, must be an object"),
        ("a.jsonl", GOOD + b'{"prompt": "caf\xe9"}\n', "a.jsonl:2: is not UTF-8 (byte 0xe9 at column 16); save the file as UTF-8"),
        ("a.jsonl", GOOD + b'{"prompt": "a\0b"}\n', "a.jsonl:2: holds NUL bytes"),
        ("a.jsonl", GOOD + b'{"prompt": "' + b"x" * 11_000_000 + b'"}\n' + GOOD, "a.jsonl:2: is longer than 10 MB"),
        ("a.jsonl", GOOD + b'{"x":' * 100_000 + b"\n", "a.jsonl:2: is not a row: it is nested too deeply"),
        ("a.jsonl", GOOD + b'{"prompt": ' + b"9" * 5_000 + b"}\n", "a.jsonl:2: is not JSON: Exceeds the limit"),
        ("a.jsonl", GOOD + b'{"prompt": "a", "prompt": "b"}\n', 'a.jsonl:2: has the key "prompt" twice; keep one'),
        (
            "a.jsonl",
            b'{"messages": [{"role": "user", "role": "user", "content": "a"}]}\n',
            'a.jsonl:1: has the key "role" twice; keep one',
        ),
        ("a.jsonl", '{"prompt": "x"}'.encode("utf-16"), "a.jsonl: is UTF-16; save it as UTF-8"),
        ("a.jsonl", b"\x1f\x8b\x08\x00", "a.jsonl: is compressed by gzip; unpack it first"),
        ("a.jsonl", b"PAR1\x00", "a.jsonl: is a Parquet file; give it the ending .parquet"),
        ("a.json", b'[{"prompt": "x"}]', "a.json: starts with a JSON list; one object a line is expected: `jq"),
        ("a.json", b'{\n"prompt": "x"}', "a.json: is JSON over several lines; one object a line is expected"),
        ("a.txt", GOOD, 'a.txt: the ending ".txt" is not one of .jsonl, .ndjson, .json, .csv, .parquet'),
        (
            "a.jsonl",
            b'{"id": "x", "prompt": "a"}\n{"id": "x", "prompt": "b"}\n',
            'a.jsonl:2: id "x" stands on line 1 already; ids must differ',
        ),
        ("a.csv", b"", "a.csv: is empty"),
        ("a.csv", b"prompt\n", "a.csv: is empty"),
        (
            "a.csv",
            b"question,answer\nWhy?,Because\n",
            'a.csv: has no column "prompt"; its columns: question, answer; say under `data.columns`',
        ),
        ("a.csv", b"prompt,prompt\na,b\n", 'a.csv: has the column "prompt" more than once'),
        ("a.csv", b"prompt,group\na\n", "a.csv:2: has 1 cell, but there are 2 columns"),
        ("a.csv", b'prompt\n"a\nb\nc\n', "a.csv:2: cannot be read on as CSV: unexpected end of data; is a quote missing there?"),
        ("a.csv", b"prompt\n" + b"a\n" * 5 + b"caf\xe9\n" + b"a\n" * 9_000, "a.csv:7: is not UTF-8 (byte 0xe9); save the file as UTF-8"),
        ("a.csv", b"prompt,caf\xe9\na,b\n", "a.csv:1: is not UTF-8 (byte 0xe9)"),
        ("a.csv", b"\nprompt\na\n", "a.csv:1: is blank; the first line holds the names of the columns"),
        ("a.csv", b"prompt,group\n,g\n", 'a.csv:2: "prompt" is empty'),
        ("a.csv", b"prompt\na\n\nb\n", "a.csv:3: is blank; remove the line"),
        ("a.parquet", b"", "a.parquet: cannot be read as Parquet"),
        ("a.parquet", GOOD, "a.parquet: cannot be read as Parquet"),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_each_bad_file_has_its_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path / name)
    assert str(caught.value).startswith(message)
    assert len(caught.value.problems) == 1


def test_a_missing_file_a_folder_and_a_link_to_itself_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    for name, message in {
        "none.jsonl": "none.jsonl: there is no such file",
        "folder.jsonl": "folder.jsonl: is a folder; name a file in it",
        "loop.jsonl": "loop.jsonl: cannot be read: too many levels of symbolic links",
    }.items():
        with pytest.raises(DataError, match=message):
            load_dataset(tmp_path / name)


def test_one_broken_line_among_thousands_is_found(tmp_path: Path) -> None:
    lines = [json.dumps(chat(f"Question {number}")) for number in range(5_000)]
    lines[3_217] = lines[3_217][:-5]
    path = tmp_path / "train.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        load_dataset(path)
    assert len(caught.value.problems) == 1
    assert ":3218: is not JSON" in str(caught.value)


def test_all_problems_are_counted_and_the_first_twenty_listed(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "train.jsonl", [{"prompt": ""}] * 1_500)
    with pytest.raises(DataError) as caught:
        load_dataset(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "... and 1,480 more problems"
    assert len(caught.value.problems) == 1_000


def test_windows_files_are_read_like_others(tmp_path: Path) -> None:
    plain, windows = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    plain.write_bytes('{"prompt": "Café?", "id": "1"}\n{"prompt": "Why?", "id": "2"}'.encode())
    windows.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    assert list(load_dataset(windows)) == list(load_dataset(plain))


def test_a_table_reads_like_json_lines(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Why,\nreally?", "completion": "Because", "id": "a", "group": "g", "tags": ["x", "y"], "system": "Be brief."},
        {"prompt": 'Who "is" it?', "id": "b"},
    ]
    lines = write_jsonl(tmp_path / "rows.jsonl", rows)
    table = tmp_path / "rows.csv"
    table.write_text('q,answer,key,kind,labels,intro\n"Why,\nreally?",Because,a,g,"x, y",Be brief.\n"Who ""is"" it?",,b,,,\n\n')
    columns = ColumnsSpec(prompt="q", completion="answer", id="key", group="kind", tags="labels", system="intro")
    assert list(load_dataset(table, columns)) == list(load_dataset(lines))


def test_a_csv_row_is_named_by_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('prompt\n"a\nb"\nc\n')
    assert [row.id for row in load_dataset(path)] == ["t-2", "t-4"]


def test_parquet_columns_are_read_and_missing_ones_named(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "t.parquet"
    parquet.write_table(pyarrow.table({"prompt": ["Why?", "Who?"], "completion": [3, None], "other": [1, 2]}), path)
    assert [row.reference for row in load_dataset(path)] == [("3",), ()]
    with pytest.raises(DataError, match='has no column "answer"; its columns: prompt, completion, other'):
        load_dataset(path, ColumnsSpec(completion="answer"))


def test_parquet_with_messages_is_read_like_json_lines(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [chat("Why?", reference=["Because"], id="a"), chat("Who?", reference=None, id="b")]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "t.parquet")
    assert list(load_dataset(tmp_path / "t.parquet")) == list(load_dataset(write_jsonl(tmp_path / "t.jsonl", rows)))


def test_numbers_in_parquet_are_text_and_gaps_are_absent(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"prompt": ["a", "b", "c"], "completion": [1.0, 2.5, float("nan")], "id": [7.0, 8.0, None]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    rows = list(load_dataset(tmp_path / "t.parquet"))
    assert [row.reference for row in rows] == [("1",), ("2.5",), ()]
    assert [row.id for row in rows] == ["7", "8", "t-3"]


def test_parquet_text_that_is_not_utf8_is_named_by_its_row(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    offsets, text = pyarrow.py_buffer(struct.pack("<3i", 0, 1, 3)), pyarrow.py_buffer(b"ab\xff")
    column = pyarrow.Array.from_buffers(pyarrow.string(), 2, [None, offsets, text])
    parquet.write_table(pyarrow.table({"prompt": column}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet:2: holds text that is not UTF-8 \(byte 0xff\)") as caught:
        load_dataset(tmp_path / "t.parquet")
    assert len(caught.value.problems) == 1


def test_parquet_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"pip install 'potstill\[parquet\]'"):
        load_dataset(tmp_path / "t.parquet")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_forbidden_file_is_named(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", [chat("Why?")])
    path.chmod(0)
    with pytest.raises(DataError, match=r"t\.jsonl: may not be read; ask its owner"):
        load_dataset(path)


def test_rows_that_cannot_be_kept_are_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no such file or folder"):
        DatasetWriter(tmp_path / "none")


def test_scanning_gives_rows_and_problems_in_order(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", [{"prompt": "a"}, {"prompt": 3}, {"prompt": "b"}])
    found = list(scan_rows(path))
    assert [type(item) for item in found] == [Example, RowProblem, Example]
    assert str(found[1]).endswith('t.jsonl:2: "prompt" is a number, must be text')


def test_a_dataset_is_a_sequence_of_its_rows(tmp_path: Path) -> None:
    rows = [Example(str(number), (Message("user", f"Wörd {number}"),)) for number in range(30)]
    data = Dataset.of(rows)
    assert len(data) == 30
    assert list(data) == rows
    assert data[-1] == rows[-1]
    assert list(data[3:20:4]) == rows[3:20:4]
    assert list(data.select([5, 2])) == [rows[5], rows[2]]
    assert list(data.select([])) == []
    with pytest.raises(IndexError):
        data[30]


@pytest.mark.parametrize("end", [b"\n", b""], ids=["with a last line end", "without"])
def test_a_written_file_opens_as_a_dataset(tmp_path: Path, end: bytes) -> None:
    rows = [Example(str(number), (Message("user", "ü" * number + "."),)) for number in range(3)]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(json.dumps(row.to_json()).encode() for row in rows) + end)
    assert list(Dataset(path)) == rows


def test_the_source_may_change_after_loading(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", [{"prompt": "a"}])
    data = load_dataset(path)
    path.write_text("gone")
    assert data[0].messages[0].content == "a"

"""Files are whole or not there."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import StoreError
from potstill.store.atomic import (
    fingerprint,
    hash_file,
    read_json,
    read_jsonl,
    read_object,
    store_error,
    write_atomic,
    write_json,
    write_jsonl,
    write_text,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def write_half() -> None:
        with write_atomic(path) as file:
            file.write("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert read_json(path) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_write_that_the_system_refuses_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file, not a folder"):
        write_text(tmp_path / "file" / "a.json", "x")


def test_a_full_disk_is_told_as_such() -> None:
    with pytest.raises(StoreError, match="disk is full; free some space"), write_atomic(Path("/dev/shm/none")):
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_refusals_of_the_system_name_the_path(code: int) -> None:
    assert str(store_error(Path("runs/x"), OSError(code, "no"))).startswith("runs/x: ")


@given(value=json_values)
def test_equal_values_have_equal_fingerprints_whatever_the_order_of_keys(value: object) -> None:
    turned = dict(reversed(value.items())) if isinstance(value, dict) else value
    assert fingerprint(value) == fingerprint(turned)


def test_fingerprints_tell_values_apart() -> None:
    values = [1, "1", [1], {"a": 1}, {"a": "1"}, None, [[1]], {"b": 1}, 1.5]
    assert len({fingerprint(value) for value in values}) == len(values)


def test_rows_come_back_as_they_went(tmp_path: Path) -> None:
    rows = [{"text": "ä\u2028b\nc"}, {"n": 1}]

    def stream() -> Iterator[dict[str, object]]:
        yield from rows

    assert write_jsonl(tmp_path / "rows.jsonl", stream()) == 2
    assert list(read_jsonl(tmp_path / "rows.jsonl")) == rows


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b'{"state": 1}'])
def test_a_damaged_file_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"a\.json: does not hold what Potstill wrote any more; remove it"):
        read_object(tmp_path / "a.json", "state", "inputs")


def test_a_damaged_line_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a"')
    with pytest.raises(StoreError, match=r"a\.jsonl: does not hold"):
        list(read_jsonl(tmp_path / "a.jsonl"))


def test_the_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert hash_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

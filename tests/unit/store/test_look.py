"""A ledger can be looked at without leaving a trace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from potstill.errors import StoreError
from potstill.records import Completion, Cost, Message, Request, Sampling, Usage
from potstill.store.ledger import Ledger
from potstill.store.look import LedgerView

REQUEST = Request((Message("user", "Which colour?"),), Sampling(8))
KILLED = """
import os, sys
from pathlib import Path
from potstill.records import Cost, Message, Request, Sampling
from potstill.store.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]), run="mine")
ledger.intend(["two"], [Request((Message("user", "Which size?"),), Sampling(8))], "echo", [Cost(1, 20, 0.5)])
os._exit(9)
"""


def one_answer(path: Path) -> None:
    with Ledger(path, run="mine") as ledger:
        ledger.intend(["one"], [REQUEST], "echo", [Cost(1, 10, 0.1)])
        ledger.record(["one"], [Completion("blue", "stop", Usage(3, 1))], [0.01])


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_looking_leaves_no_trace_and_shows_the_answers(tmp_path: Path) -> None:
    one_answer(tmp_path / "ledger.sqlite")
    before = bytes_of(tmp_path)
    with LedgerView(tmp_path / "ledger.sqlite", run="mine") as ledger:
        found = ledger.get("one")
        assert (found and found.text, ledger.spent()) == ("blue", Cost(1, 4, 0.01))
    assert bytes_of(tmp_path) == before


def test_calls_that_a_kill_cut_off_are_seen_and_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    one_answer(path)
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    before = bytes_of(tmp_path)
    with LedgerView(path, run="mine") as ledger:
        assert (ledger.get("two"), ledger.spent().calls, ledger.usage().orphaned) == (None, 2, 0)
    assert bytes_of(tmp_path) == before
    with Ledger(path, run="mine") as ledger:
        assert ledger.orphaned == 1


def test_a_failed_call_is_no_answer(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.intend(["one"], [REQUEST], "echo")
        ledger.record(["one"], [Completion("", "error", error="500: no")], [0.0])
        assert ledger.get("one") is not None
    with LedgerView(path) as view:
        assert view.get("one") is None


def test_what_is_no_ledger_is_told_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_bytes(b"no ledger at all" * 100)
    with pytest.raises(StoreError, match="is not a ledger"):
        LedgerView(path)
    assert bytes_of(tmp_path) == {"ledger.sqlite": b"no ledger at all" * 100}

"""Ledgers that are shared, merged, or on a full disk: nothing paid is lost, nothing spent forgotten."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import StoreError
from potstill.records import Completion, Cost, Fault, Message, Request, Sampling, TokenLogprob, Usage
from potstill.store.ledger import Ledger

REQUEST = Request((Message("user", "What is distilled?"),), Sampling(8), 2, '{"type":"string"}', 3, "wording 4")
MOST = Cost(1, 100, 10.0)


def answer(text: str) -> Completion:
    return Completion(text, "stop", Usage(3, 2), 0.5, "teacher", None, "Let me think.", (TokenLogprob("W", -0.5, (("W", -0.5),)),))


def intend(ledger: Ledger, *keys: str) -> None:
    ledger.intend(keys, [REQUEST] * len(keys), "teacher", [MOST] * len(keys))


def ask(ledger: Ledger, *keys: str, text: str = "Whisky.") -> None:
    intend(ledger, *keys)
    ledger.record(keys, [answer(text)] * len(keys), [0.25] * len(keys))


def fail(ledger: Ledger, key: str, fault: Fault | None = None) -> None:
    intend(ledger, key)
    ledger.record([key], [Completion("", "error", error="no", fault=fault)], [0.0])


def content(path: Path) -> list[tuple]:
    """All rows of a ledger that is closed."""
    database = sqlite3.connect(path)
    try:
        return [
            row for table in ("question", "attempt", "verdict", "asked") for row in database.execute(f"SELECT * FROM {table} ORDER BY 1, 2")
        ]
    finally:
        database.close()


def test_an_answer_comes_back_with_all_that_was_recorded(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ask(ledger, "a")
        assert ledger.get("a") == answer("Whisky.")
        assert list(ledger.answers()) == [("a", REQUEST, answer("Whisky."))]


def test_what_was_in_flight_at_the_end_of_a_process_counts_at_its_most_and_a_late_settlement_at_its_cost(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.spent() == Cost()
        intend(ledger, "a", "b", "c")
        assert ledger.spent() == Cost(3, 300, 30.0)
        ledger.record(["a"], [answer("Whisky.")], [0.25])
        assert ledger.spent() == Cost(3, 205, 20.25)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.orphaned == 2
        assert ledger.spent() == Cost(3, 205, 20.25)
        ask(ledger, "b")
        assert ledger.spent() == Cost(4, 210, 20.5)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.spent() == Cost(4, 210, 20.5)


@pytest.mark.parametrize(
    ("completion", "cost"),
    [
        (Completion("", "error", error="429", fault=Fault("busy")), Cost(1, 0, 0.0)),
        (Completion("", "error", error="half a body", fault=Fault("garbled", charged=True)), Cost(1, 100, 10.0)),
        (Completion("Whisky.", "stop", Usage(3, 2), counted=False), Cost(1, 100, 10.0)),
        (Completion("", "error", Usage(3, 0), error="empty"), Cost(1, 3, 0.0)),
    ],
    ids=["refused", "charged for nothing", "not counted", "failed"],
)
def test_what_may_have_been_charged_counts_at_its_most(tmp_path, completion, cost):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        intend(ledger, "a")
        ledger.record(["a"], [completion], [0.0])
        assert ledger.spent() == cost


def test_a_batch_in_flight_is_neither_orphaned_nor_forgotten_and_one_that_never_left_costs_nothing(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        for batch, key in (("one", "a"), ("two", "b")):
            ledger.open_batch(batch, "teacher")
            ledger.intend([key], [REQUEST], "teacher", [MOST], batch)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.orphaned == 0
        assert ledger.spent() == Cost(2, 200, 20.0)
        ledger.note_batch("two", "lost")
        assert ledger.spent() == Cost(1, 100, 10.0)
        assert [(one.key, one.request) for one in ledger.waiting("one")] == [("a", REQUEST)]


def test_runs_that_share_a_ledger_share_answers_and_count_their_own_calls(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite", "first") as ledger:
        ask(ledger, "a", "b")
    with Ledger(tmp_path / "ledger.sqlite", "it's the second") as ledger:
        assert ledger.missing(["a", "b", "c"]) == ["c"]
        assert (ledger.spent(), ledger.dollars(), ledger.usage().calls) == (Cost(), 0.0, 0)
        ask(ledger, "c")
        assert ledger.get("a") == answer("Whisky.")
        assert (ledger.spent(), ledger.dollars(), ledger.usage().calls) == (Cost(1, 5, 0.25), 0.25, 1)
    with Ledger(tmp_path / "ledger.sqlite", "first") as ledger:
        assert (ledger.spent(), ledger.usage().answered) == (Cost(2, 10, 0.5), 2)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.spent() == Cost(3, 15, 0.75)


steps_ = st.lists(st.tuples(st.sampled_from(["answered", "failed", "in flight"]), st.sampled_from("abcdef")), max_size=8)


def write(path: Path, steps: list[tuple[str, str]], text: str) -> None:
    """Do these steps to keys that have no answer yet; those that end in flight stay so."""
    with Ledger(path) as ledger:
        ledger.note_asking(float(len(text)), 3.0, 0.5)
        answered: set[str] = set()
        for what, key in steps:
            if what == "answered" and key not in answered:
                ask(ledger, key, text=text)
                answered.add(key)
            elif what == "failed":
                fail(ledger, key)
        intend(ledger, *sorted({key for what, key in steps if what == "in flight"} - answered))


@given(steps_, steps_)
@settings(max_examples=60, deadline=None)
def test_merging_twice_is_merging_once_and_keeps_every_answer_and_every_cost(tmp_path_factory, here, there):
    folder = tmp_path_factory.mktemp("merge")
    write(folder / "here.sqlite", here, "here")
    write(folder / "there.sqlite", there, "there")
    with Ledger(folder / "there.sqlite") as ledger:
        their_cost = ledger.spent()
    answered = {name: {key for what, key in steps if what == "answered"} for name, steps in (("here", here), ("there", there))}
    with Ledger(folder / "here.sqlite") as ledger:
        our_cost = ledger.spent()
        assert ledger.merge(folder / "there.sqlite") == len(answered["there"] - answered["here"])
        for key in "abcdef":
            found = ledger.get(key)
            text = found.text if found is not None and found.finish_reason != "error" else None
            assert text == ("here" if key in answered["here"] else "there" if key in answered["there"] else None)
        assert ledger.spent() == our_cost + their_cost
        assert ledger.seconds_asked() == max(3.0, ledger.usage().seconds)  # they ran beside us
    once = content(folder / "here.sqlite")
    with Ledger(folder / "here.sqlite") as ledger:
        assert ledger.merge(folder / "there.sqlite") == 0
    assert content(folder / "here.sqlite") == once


def test_the_ledger_of_a_killed_worker_is_merged_as_it_lies_there(tmp_path):
    worker = Ledger(tmp_path / "worker.sqlite")
    ask(worker, "a")
    intend(worker, "b")
    (tmp_path / "left").mkdir()
    for file in tmp_path.glob("worker.sqlite*"):
        shutil.copy(file, tmp_path / "left")
    worker.close()
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.merge(tmp_path / "left" / "worker.sqlite") == 1
        assert (ledger.missing(["a", "b"]), ledger.usage().orphaned, ledger.spent()) == (["b"], 1, Cost(2, 105, 10.25))


def test_what_cannot_be_merged_is_named_and_changes_nothing(tmp_path):
    (tmp_path / "notes.sqlite").write_bytes(b"id,text\n1,hello\n" * 100)
    Ledger(tmp_path / "old.sqlite").close()
    with sqlite3.connect(tmp_path / "old.sqlite") as database:
        database.execute("PRAGMA user_version = 1")
    database.close()
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        said = {"none": "there is no such ledger", "notes": "not a ledger", "old": "not a ledger of this", "ledger": "in use"}
        for name, words in said.items():
            with pytest.raises(StoreError, match=rf"{name}\.sqlite: .*{words}"):
                ledger.merge(tmp_path / f"{name}.sqlite")
        ask(ledger, "a")
        assert not (tmp_path / "none.sqlite").exists()


FULL_DISK = """
import resource, signal
from pathlib import Path
from potstill.errors import StoreError
from potstill.models.ask import ask
from potstill.models.echo import EchoModel
from potstill.records import Message, Request, Sampling
from potstill.store.ledger import Ledger

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
with Ledger(Path({path!r})) as ledger:
    print(ledger.read_only)
    print(ledger.get("a").text, ledger.spent().calls)
    try:
        ask(EchoModel(), [Request((Message("user", "hello"),), Sampling(8))], ledger)
    except StoreError as error:
        print(error)
"""


@pytest.mark.parametrize("in_flight", [True, False])
def test_on_a_full_disk_a_ledger_opens_for_reading_and_says_so(tmp_path, in_flight):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ask(ledger, "a")
        if in_flight:
            intend(ledger, "b")
    program = textwrap.dedent(FULL_DISK.format(path=str(path)))
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert child.stderr == ""
    why, found, refusal = child.stdout.splitlines()
    assert why.startswith("the disk ")
    assert found == f"Whisky. {1 + in_flight}"
    assert refusal == f"{path}: {why} (it is open for reading, so nothing can be asked)"
    with Ledger(path) as ledger:
        assert (ledger.read_only, ledger.orphaned) == (None, int(in_flight))


def test_sums_read_no_answers(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite", "run") as ledger:
        said: list[str] = []
        ledger._db.set_trace_callback(said.append)
        ledger.spent()
        ledger.usage()
        ledger._db.set_trace_callback(None)
        plans = [str(ledger._db.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()) for query in said]
    assert len(plans) >= 4
    assert all("COVERING INDEX attempt_sums" in plan for plan in plans)

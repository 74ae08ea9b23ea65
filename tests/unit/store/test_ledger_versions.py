"""Ledgers of earlier versions are brought up as they are opened: every answer, sum, verdict and batch stays."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from potstill.records import Completion, Cost, Message, Request, Sampling, TokenLogprob, Usage, Verdict
from potstill.store.ledger import Ledger
from potstill.store.ledger_schema import SCHEMA_VERSION

REQUEST = Request((Message("user", "What is distilled?"),), Sampling(8))

# The tables as each version made them.
TABLES_1 = """
CREATE TABLE question (key TEXT PRIMARY KEY, model TEXT NOT NULL, request TEXT NOT NULL);
CREATE TABLE attempt (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL REFERENCES question (key),
    state TEXT NOT NULL CHECK (state IN ('intent', 'answered', 'failed', 'orphaned')),
    started REAL NOT NULL, finished REAL, input_tokens INTEGER NOT NULL DEFAULT 0, output_tokens INTEGER NOT NULL DEFAULT 0,
    finish_reason TEXT, latency_s REAL, error TEXT, text TEXT, dollars REAL, model TEXT
);
CREATE INDEX attempt_of_question ON attempt (key);
CREATE UNIQUE INDEX attempt_in_flight ON attempt (key) WHERE state = 'intent';
CREATE TABLE verdict (
    key TEXT NOT NULL, row TEXT NOT NULL, gate TEXT NOT NULL, version INTEGER NOT NULL, keep INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (key, row, gate, version)
) WITHOUT ROWID;
"""
TABLES_2 = """
CREATE TABLE question (key TEXT PRIMARY KEY, model TEXT NOT NULL, request TEXT NOT NULL);
CREATE TABLE attempt (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL REFERENCES question (key),
    state TEXT NOT NULL CHECK (state IN ('intent', 'answered', 'failed', 'orphaned')),
    started REAL NOT NULL, finished REAL, input_tokens INTEGER NOT NULL DEFAULT 0, output_tokens INTEGER NOT NULL DEFAULT 0,
    finish_reason TEXT, latency_s REAL, error TEXT, text TEXT, dollars REAL, model TEXT,
    run TEXT NOT NULL DEFAULT '', held_tokens INTEGER NOT NULL DEFAULT 0, held_dollars REAL DEFAULT 0,
    uncertain INTEGER NOT NULL DEFAULT 0, fault TEXT, reasoning TEXT, logprobs TEXT, raw BLOB, batch TEXT
);
CREATE INDEX attempt_of_question ON attempt (key);
CREATE INDEX attempt_of_batch ON attempt (batch) WHERE batch IS NOT NULL;
CREATE TABLE batch (
    id TEXT PRIMARY KEY, endpoint TEXT NOT NULL, provider_id TEXT,
    state TEXT NOT NULL CHECK (state IN ('prepared', 'submitted', 'collected', 'lost')), created REAL NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX attempt_in_flight ON attempt (key) WHERE state = 'intent';
CREATE TABLE verdict (
    key TEXT NOT NULL, row TEXT NOT NULL, gate TEXT NOT NULL, version INTEGER NOT NULL, keep INTEGER NOT NULL, reason TEXT NOT NULL,
    code TEXT NOT NULL DEFAULT '', PRIMARY KEY (key, row, gate, version)
) WITHOUT ROWID;
"""
SUMS = """
CREATE INDEX attempt_sums ON attempt
    (run, started, finished, state, uncertain, held_tokens, held_dollars, input_tokens, output_tokens, dollars);
"""
TABLES_3 = f"{TABLES_2}{SUMS}CREATE TABLE asked (run TEXT PRIMARY KEY, seconds REAL NOT NULL) WITHOUT ROWID;"
TABLES_4 = f"""{TABLES_2}{SUMS}
CREATE TABLE asked (
    run TEXT NOT NULL, since REAL NOT NULL, seconds REAL NOT NULL, dollars REAL NOT NULL, PRIMARY KEY (run, since)
) WITHOUT ROWID;
"""
TABLES = {"1": TABLES_1, "2": TABLES_2, "2, later": TABLES_2 + SUMS, "3": TABLES_3, "4": TABLES_4}

# An answer, a failed call, one that nobody waits for any more, and one in flight.
ROWS = """
INSERT INTO question SELECT value, 'teacher',
    '{"messages": [{"role": "user", "content": "What is distilled?"}], "sampling": {"max_new_tokens": 8, "stop": []}, "sample": 0}'
    FROM json_each('["a", "b", "c", "d", "e"]');
INSERT INTO attempt (key, state, started, finished, input_tokens, output_tokens, finish_reason, latency_s, error, text, dollars, model)
    VALUES ('a', 'answered', 1, 2, 3, 2, 'stop', 0.5, NULL, 'Whisky.', 0.25, 'teacher'),
           ('b', 'failed', 2, 4, 1, 0, 'error', 0, 'it said no', '', 0.0, '');
INSERT INTO attempt (key, state, started, finished) VALUES ('c', 'orphaned', 4, 5);
INSERT INTO attempt (key, state, started) VALUES ('d', 'intent', 6);
INSERT INTO verdict (key, row, gate, version, keep, reason) VALUES ('a', 'row-1', 'format', 1, 1, ''), ('b', 'row-2', 'format', 1, 0, 'no');
"""
# What version 2 holds besides.
MORE_ROWS = """
UPDATE attempt SET reasoning = 'Let me think.', logprobs = '[["W", -0.5, [["W", -0.5]]]]' WHERE key = 'a';
UPDATE attempt SET held_tokens = 100, held_dollars = 10, uncertain = state = 'orphaned', run = 'run';
INSERT INTO attempt (key, state, started, batch, held_tokens, held_dollars, run) VALUES ('e', 'intent', 7, 'ours', 100, 10, 'run');
INSERT INTO batch VALUES ('ours', 'teacher', 'theirs', 'submitted', 7);
UPDATE verdict SET code = 'other' WHERE keep = 0;
"""


def write(path: Path, version: str) -> None:
    """A ledger as that version left it, with a call in flight."""
    database = sqlite3.connect(path)
    number = int(version[0])
    database.executescript(TABLES[version] + ROWS + (MORE_ROWS if number > 1 else ""))
    if number > 2:
        database.execute(f"INSERT INTO asked VALUES ('run', {'12.5' if number == 3 else '0, 12.5, 0'})")
    database.executescript(f"PRAGMA application_id = 0x506F7473; PRAGMA user_version = {number}")
    database.close()


def shape(path: Path) -> dict[str, list[str]]:
    """Tables and indices of a ledger, each with its columns."""
    database = sqlite3.connect(path)
    try:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite%'")]
        return {name: sorted(row[1] for row in database.execute(f"SELECT * FROM pragma_table_xinfo('{name}')")) for name in names}
    finally:
        database.close()


@pytest.mark.parametrize("version", TABLES)
def test_a_ledger_of_an_earlier_version_is_brought_up_with_all_that_it_holds(tmp_path, version):
    write(tmp_path / "old.sqlite", version)
    first, run = version == "1", "" if version == "1" else "run"
    with Ledger(tmp_path / "old.sqlite", run) as ledger:
        thoughts = (None, ()) if first else ("Let me think.", (TokenLogprob("W", -0.5, (("W", -0.5),)),))
        answer = Completion("Whisky.", "stop", Usage(3, 2), 0.5, "teacher", None, *thoughts)
        assert list(ledger.answers()) == [("a", REQUEST, answer)]
        assert (ledger.get("a"), ledger.get("b").error, ledger.get("c")) == (answer, "it said no", None)
        assert ledger.missing(list("abcde")) == list("bcde")
        assert ledger.verdicts("a", "row-1") == [Verdict("format", True, "", 1)]
        assert ledger.verdicts("b", "row-2") == [Verdict("format", False, "no", 1, "" if first else "other")]
        totals = ledger.usage()
        assert ledger.orphaned == 1
        assert (totals.calls, totals.answered, totals.failed, totals.orphaned) == (4 if first else 5, 1, 1, 2)
        assert (totals.usage, totals.dollars, totals.seconds) == (Usage(4, 2), 0.25, 3.0)
        # What was held in version 1 is not known; later, what was orphaned, is in flight, or waits in a batch counts at its most.
        assert ledger.spent() == (Cost(3, 6, 0.25) if first else Cost(5, 306, 30.25))
        assert ledger.seconds_asked() == (12.5 if version in "34" else 3.0)
        assert ledger.open_batches("teacher") == ([] if first else [("ours", "theirs")])
        assert ledger.keys_waiting("ours") == ([] if first else ["e"])
        ledger.intend(["d"], [REQUEST], "teacher")
        ledger.record(["d"], [replace(answer, first_token_s=0.2, thinking_tokens=1)], [0.5])
        ledger.note_asking(20.0, 1.5, 0.25)
        assert ledger.dollars() == 1.0
    with Ledger(tmp_path / "old.sqlite", run) as ledger:
        assert (ledger.orphaned, ledger.get("d"), ledger.usage().answered) == (0, answer, 2)
        told = [(ledger.get(key).first_token_s, ledger.get(key).thinking_tokens) for key in "ad"]
        assert told == [(None, 0), (0.2, 1)]
    Ledger(tmp_path / "new.sqlite").close()
    assert shape(tmp_path / "old.sqlite") == shape(tmp_path / "new.sqlite")


def test_every_earlier_version_is_tried():
    assert {int(version[0]) for version in TABLES} == set(range(1, SCHEMA_VERSION))

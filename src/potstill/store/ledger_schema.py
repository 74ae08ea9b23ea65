"""The tables of a ledger, and how those of earlier versions are brought up."""

from __future__ import annotations

import sqlite3

SCHEMA_VERSION = 5
APPLICATION_ID = 0x506F7473  # "Pots": tells a ledger from any other SQLite file

_SCHEMA = """
CREATE TABLE question (
    key     TEXT PRIMARY KEY,  -- models.questions.request_key
    model   TEXT NOT NULL,     -- Model.identity
    request TEXT NOT NULL      -- messages, sampling and sample, as JSON
);
CREATE TABLE attempt (
    id            INTEGER PRIMARY KEY,
    key           TEXT NOT NULL REFERENCES question (key),
    state         TEXT NOT NULL CHECK (state IN ('intent', 'answered', 'failed', 'orphaned')),
    started       REAL NOT NULL,  -- seconds since 1970, as `finished`
    finished      REAL,
    input_tokens  INTEGER NOT NULL DEFAULT 0,
    output_tokens INTEGER NOT NULL DEFAULT 0,
    finish_reason TEXT,
    latency_s     REAL,
    error         TEXT,
    text          TEXT,
    dollars       REAL,           -- NULL: the price is unknown
    model         TEXT,           -- the name that came with the answer
    run           TEXT NOT NULL DEFAULT '',   -- who asked: ledgers may be shared
    held_tokens   INTEGER NOT NULL DEFAULT 0, -- the most that the call could cost
    held_dollars  REAL DEFAULT 0,
    uncertain     INTEGER NOT NULL DEFAULT 0, -- what it cost is not known, and counts as what was held
    fault         TEXT,           -- why a failed call may be tried again; NULL: it would fail again
    reasoning     TEXT,
    logprobs      TEXT,           -- JSON: [[token, logprob, [[token, logprob], ...]], ...]
    raw           BLOB,           -- the body as it came, zlib
    batch         TEXT,           -- our id of the provider's batch that it is part of
    first_token_s REAL,           -- NULL: not known
    thinking_tokens INTEGER NOT NULL DEFAULT 0  -- of those written, the ones before that first token
);
CREATE INDEX attempt_of_question ON attempt (key);
CREATE INDEX attempt_of_batch ON attempt (batch) WHERE batch IS NOT NULL;
-- All that sums need, in the order of time, so that they read no answers and new entries go to the end.
CREATE INDEX attempt_sums ON attempt
    (run, started, finished, state, uncertain, held_tokens, held_dollars, input_tokens, output_tokens, dollars);
CREATE TABLE batch (
    id          TEXT PRIMARY KEY,  -- ours; it stands in the provider's metadata
    endpoint    TEXT NOT NULL,     -- Model.identity
    provider_id TEXT,              -- NULL: not known to have been submitted
    state       TEXT NOT NULL CHECK (state IN ('prepared', 'submitted', 'collected', 'lost')),
    created     REAL NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX attempt_in_flight ON attempt (key) WHERE state = 'intent';
CREATE TABLE verdict (
    key     TEXT NOT NULL,
    row     TEXT NOT NULL,  -- the row of data that the answer was judged for: its gold answer counts
    gate    TEXT NOT NULL,
    version INTEGER NOT NULL,
    keep    INTEGER NOT NULL,
    reason  TEXT NOT NULL,
    code    TEXT NOT NULL DEFAULT '',  -- the reason in a word, to count by
    PRIMARY KEY (key, row, gate, version)
) WITHOUT ROWID;
CREATE TABLE asked (
    run     TEXT NOT NULL,
    since   REAL NOT NULL,  -- seconds since 1970; tells stretches of asking apart
    seconds REAL NOT NULL,  -- that it took, waits included
    dollars REAL NOT NULL,  -- of machines paid by the hour meanwhile, less those that attempts were charged with
    PRIMARY KEY (run, since)
) WITHOUT ROWID;
"""

# What a ledger of an earlier version lacks.
_UPGRADES = {
    1: """
ALTER TABLE attempt ADD COLUMN run TEXT NOT NULL DEFAULT '';
ALTER TABLE attempt ADD COLUMN held_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN held_dollars REAL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN uncertain INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN fault TEXT;
ALTER TABLE attempt ADD COLUMN reasoning TEXT;
ALTER TABLE attempt ADD COLUMN logprobs TEXT;
ALTER TABLE attempt ADD COLUMN raw BLOB;
ALTER TABLE attempt ADD COLUMN batch TEXT;
ALTER TABLE verdict ADD COLUMN code TEXT NOT NULL DEFAULT '';
CREATE INDEX attempt_of_batch ON attempt (batch) WHERE batch IS NOT NULL;
CREATE TABLE batch (
    id TEXT PRIMARY KEY, endpoint TEXT NOT NULL, provider_id TEXT,
    state TEXT NOT NULL CHECK (state IN ('prepared', 'submitted', 'collected', 'lost')), created REAL NOT NULL
) WITHOUT ROWID;
""",
    2: """
CREATE INDEX IF NOT EXISTS attempt_sums ON attempt
    (run, started, finished, state, uncertain, held_tokens, held_dollars, input_tokens, output_tokens, dollars);
CREATE TABLE asked (run TEXT PRIMARY KEY, seconds REAL NOT NULL) WITHOUT ROWID;
""",
    3: """
ALTER TABLE asked RENAME TO asked_in_all;
CREATE TABLE asked (
    run TEXT NOT NULL, since REAL NOT NULL, seconds REAL NOT NULL, dollars REAL NOT NULL, PRIMARY KEY (run, since)
) WITHOUT ROWID;
INSERT INTO asked SELECT run, 0, seconds, 0 FROM asked_in_all;
DROP TABLE asked_in_all;
""",
    4: """
ALTER TABLE attempt ADD COLUMN first_token_s REAL;
ALTER TABLE attempt ADD COLUMN thinking_tokens INTEGER NOT NULL DEFAULT 0;
""",
}


def make_tables(database: sqlite3.Connection, version: int) -> None:
    """Make what this version of the schema has and a file of that version (0: none) lacks; inside the caller's transaction."""
    if version == SCHEMA_VERSION:
        return
    script = _SCHEMA if version == 0 else "".join(_UPGRADES[step] for step in range(version, SCHEMA_VERSION))
    for statement in script.split(";\n"):
        database.execute(statement)
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")

"""The ledger: what was committed stands, what was in flight is known, trouble is told in one line."""

import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import StoreError
from potstill.records import Completion, Cost, Message, Request, Sampling, Usage, Verdict
from potstill.store.ledger import Ledger
from potstill.store.ledger_batches import Waiting
from potstill.store.ledger_errors import ledger_error

REQUEST = Request((Message("user", "What is distilled?"),), Sampling(max_new_tokens=8))
ANSWER = Completion("Whisky.", "stop", Usage(3, 2), 0.5, "teacher")
FAILURE = Completion("", "error", error="the endpoint was busy six times")


def ask(ledger: Ledger, keys: list[str], answer: Completion = ANSWER, dollars: float | None = 0.25) -> None:
    ledger.intend(keys, [REQUEST] * len(keys), "teacher")
    ledger.record(keys, [answer] * len(keys), [dollars] * len(keys))


def cut_off_after_an_intent(ledger: Ledger) -> None:
    with ledger.transaction():
        ledger.intend(["a"], [REQUEST], "teacher")
        raise KeyboardInterrupt


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "generation" / "ledger.sqlite"


def test_an_answer_is_read_as_it_was_recorded_in_the_next_process_too(path):
    with Ledger(path) as ledger:
        ask(ledger, ["a"])
        assert ledger.get("a") == ANSWER
    with Ledger(path) as ledger:
        assert ledger.get("a") == ANSWER
        assert ledger.get("b") is None


@given(text=st.text(), error=st.none() | st.text())
@settings(max_examples=50, deadline=None)
def test_any_text_is_kept_as_it_is(tmp_path_factory, text, error):
    with Ledger(tmp_path_factory.mktemp("ledger") / "ledger.sqlite") as ledger:
        ask(ledger, ["a"], Completion(text, "stop", error=error))
        found = ledger.get("a")
        assert found is not None
        assert (found.text, found.error) == (text, error)


def test_half_a_surrogate_pair_is_kept_as_a_replacement_sign(path):
    with Ledger(path) as ledger:
        ask(ledger, ["a"], Completion("half \ud83d, whole \ud83d\ude00", "stop"))
        assert ledger.get("a").text == "half \ufffd, whole \U0001f600"


def test_missing_are_the_keys_without_an_answer_in_order(path):
    with Ledger(path) as ledger:
        ask(ledger, ["b", "d"])
        assert ledger.missing(["a", "b", "c", "d", "e"]) == ["a", "c", "e"]


def test_missing_takes_more_keys_than_a_query_does(path):
    keys = [f"k{number:05}" for number in range(2500)]
    with Ledger(path) as ledger:
        ask(ledger, keys[::2])
        assert ledger.missing(keys) == keys[1::2]


def test_a_failed_call_is_data_now_and_is_asked_again_by_the_next_process(path):
    with Ledger(path) as ledger:
        ask(ledger, ["a"], FAILURE)
        assert ledger.missing(["a"]) == []
        assert ledger.get("a").error == FAILURE.error
    with Ledger(path) as ledger:
        assert ledger.missing(["a"]) == ["a"]
        ask(ledger, ["a"])
        assert ledger.get("a") == ANSWER
    with Ledger(path) as ledger:
        assert ledger.missing(["a"]) == []
        assert (ledger.usage().answered, ledger.usage().failed) == (1, 1)


def test_intents_without_an_answer_are_settled_and_counted_at_opening(path):
    with Ledger(path) as ledger:
        ledger.intend(["a", "b", "c"], [REQUEST] * 3, "teacher")
        ledger.record(["b"], [ANSWER], [0.0])
        assert ledger.orphaned == 0
    with Ledger(path) as ledger:
        assert ledger.orphaned == 2
        assert ledger.missing(["a", "b", "c"]) == ["a", "c"]
        ask(ledger, ["a", "c"])
        totals = ledger.usage()
        assert (totals.calls, totals.answered, totals.orphaned) == (5, 3, 2)
    with Ledger(path) as ledger:
        assert ledger.orphaned == 0


def test_abandoned_calls_may_be_intended_again(path):
    with Ledger(path) as ledger:
        ledger.intend(["a"], [REQUEST], "teacher")
        ledger.abandon(["a"])
        ask(ledger, ["a"])
        assert ledger.get("a") == ANSWER


def test_abandoned_calls_count_at_their_most_unless_nobody_charged_for_them(path):
    with Ledger(path) as ledger:
        ledger.intend(["a", "b"], [REQUEST, REQUEST], "teacher", [Cost(1, 10, 2.0)] * 2)
        ledger.abandon(["a"])
        ledger.abandon(["b"], charged=False)
        assert ledger.spent() == Cost(1, 10, 2.0)


def in_a_batch(ledger, batch, keys):
    ledger.open_batch(batch, "teacher")
    ledger.intend(keys, [REQUEST] * len(keys), "teacher", [Cost(1, 10, 2.0)] * len(keys), batch=batch)


def test_what_waits_in_a_batch_outlives_the_process_and_is_known_by_batch_and_key(path):
    with Ledger(path) as ledger:
        in_a_batch(ledger, "ours", ["a", "b", "c"])
        ledger.intend(["d"], [REQUEST], "teacher")
        ledger.note_batch("ours", "submitted", "theirs")
    with Ledger(path) as ledger:
        assert ledger.orphaned == 1
        assert ledger.open_batches("teacher") == [("ours", "theirs")]
        assert ledger.in_batches(["a", "c", "d", "e"]) == {"a", "c"}
        ledger.record(["b"], [ANSWER], [0.0])
        assert ledger.keys_waiting("ours") == ["a", "c"]
        assert ledger.waiting("ours", ["c", "d"]) == [Waiting("c", REQUEST, Cost(1, 10, 2.0), own=True)]
        assert ledger.held("ours") == Cost(2, 20, 4.0)


def test_what_waits_is_told_apart_by_the_run_that_pays_for_it(path):
    with Ledger(path, "theirs") as ledger:
        in_a_batch(ledger, "batch", ["a"])
    with Ledger(path, "ours") as ledger:
        assert not ledger.waiting("batch")[0].own
        assert ledger.held("batch") == ledger.spent() == Cost()


@pytest.mark.parametrize("state", ["collected", "lost"])
def test_of_a_batch_that_is_done_with_what_has_no_answer_was_not_charged(path, state):
    with Ledger(path) as ledger:
        in_a_batch(ledger, "ours", ["a", "b"])
        ledger.record(["a"], [ANSWER], [1.0])
        ledger.note_batch("ours", state)
        assert ledger.open_batches("teacher") == []
        assert ledger.spent() == Cost(1, 5, 1.0)
        ask(ledger, ["b"])


def test_what_waits_in_a_batch_that_is_closed_by_hand_is_orphaned(path):
    with Ledger(path) as ledger:
        in_a_batch(ledger, "ours", ["a"])
    database = sqlite3.connect(path)
    database.execute("UPDATE batch SET state = 'lost'")
    database.commit()
    database.close()
    with Ledger(path) as ledger:
        assert ledger.orphaned == 1
        assert ledger.spent() == Cost(1, 10, 2.0)


def test_a_question_is_never_in_flight_twice(path):
    with Ledger(path) as ledger:
        ledger.intend(["a"], [REQUEST], "teacher")
        with pytest.raises(sqlite3.IntegrityError):
            ledger.intend(["a"], [REQUEST], "teacher")


def test_an_answer_needs_an_intent(path):
    with Ledger(path) as ledger, pytest.raises(AssertionError):
        ledger.record(["a"], [ANSWER], [0.0])


def test_a_transaction_is_kept_whole_or_not_at_all(path):
    with Ledger(path) as ledger:
        with pytest.raises(KeyboardInterrupt):
            cut_off_after_an_intent(ledger)
        with ledger.transaction():
            ledger.intend(["b"], [REQUEST], "teacher")
            ledger.record(["b"], [ANSWER], [0.0])
        assert ledger.missing(["a", "b"]) == ["a"]
        assert ledger.usage().calls == 1


def test_usage_adds_up_all_attempts(path):
    with Ledger(path) as ledger:
        assert ledger.usage().dollars == 0.0
        ask(ledger, ["a", "b"])
        ask(ledger, ["c"], Completion("", "error", Usage(5, 0), error="cut"), 0.5)
        totals = ledger.usage()
        assert (totals.calls, totals.answered, totals.failed) == (3, 2, 1)
        assert totals.usage == Usage(11, 4)
        assert totals.dollars == ledger.dollars() == 1.0
        assert totals.seconds >= 0.0


def test_dollars_are_unknown_as_soon_as_one_price_is(path):
    with Ledger(path) as ledger:
        ask(ledger, ["a"])
        ask(ledger, ["b"], dollars=None)
        assert ledger.dollars() is None
        assert ledger.usage().dollars is None


def test_seconds_are_counted_once_where_calls_overlap(path):
    with Ledger(path) as ledger:
        ask(ledger, ["a", "b", "c", "d"])
    database = sqlite3.connect(path)
    for key, started, finished in (("a", 0, 10), ("b", 2, 5), ("c", 8, 12), ("d", 20, 21)):
        database.execute("UPDATE attempt SET started = ?, finished = ? WHERE key = ?", (started, finished, key))
    database.commit()
    database.close()
    with Ledger(path) as ledger:
        assert ledger.usage().seconds == 13.0


def test_verdicts_are_kept_by_row_gate_and_version_and_the_last_word_counts(path):
    first, second = Verdict("format", False, "no label", 1), Verdict("format", True, "", 2)
    with Ledger(path) as ledger:
        ledger.judge([("a", "row-1", first), ("a", "row-2", Verdict("format", True)), ("a", "row-1", second)])
        assert ledger.verdicts("a", "row-1") == [first, second]
        ledger.judge([("a", "row-1", Verdict("format", True, "", 1))])
        assert ledger.verdicts("a", "row-1") == [Verdict("format", True, "", 1), second]
        assert ledger.verdicts("a", "row-3") == []


def test_a_second_opener_is_told_that_the_ledger_is_in_use(path):
    with Ledger(path):
        code = f"from pathlib import Path; from potstill.store.ledger import Ledger; Ledger(Path({str(path)!r}))"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "StoreError" in other.stderr
        assert "in use by another process" in other.stderr
    Ledger(path).close()


def test_what_is_no_ledger_is_refused_and_left_as_it_is(path):
    path.parent.mkdir(parents=True)
    path.write_bytes(b"id,text\n1,hello\n" * 100)
    with pytest.raises(StoreError, match="not an SQLite file"):
        Ledger(path)
    assert path.read_bytes() == b"id,text\n1,hello\n" * 100


def test_the_database_of_another_program_is_refused(path):
    path.parent.mkdir(parents=True)
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE bookmarks (url TEXT)")
    database.close()
    with pytest.raises(StoreError, match="another program"):
        Ledger(path)


def test_a_ledger_from_the_future_is_refused(path):
    Ledger(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreError, match=r"version 99.*update Potstill"):
        Ledger(path)


def test_a_damaged_ledger_says_so(path):
    with Ledger(path) as ledger:
        ask(ledger, [f"k{number}" for number in range(500)])
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(bytes(content))
    with pytest.raises(StoreError, match="damaged"), Ledger(path) as ledger:
        ledger.usage()


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "generation").write_text("not a folder")
    with pytest.raises(StoreError, match="generation"):
        Ledger(tmp_path / "generation" / "ledger.sqlite")


def sqlite_failure(setting: str, statement: str) -> sqlite3.DatabaseError:
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.execute("CREATE TABLE t (x)")
    database.execute(setting)
    with pytest.raises(sqlite3.DatabaseError) as caught:
        database.execute(statement)
    return caught.value


@pytest.mark.parametrize(
    ("setting", "words"), [("PRAGMA max_page_count = 3", "the disk is full"), ("PRAGMA query_only = ON", "may not be written to")]
)
def test_errors_of_the_disk_are_told_in_words(setting, words):
    failure = sqlite_failure(setting, "INSERT INTO t VALUES (randomblob(1000000))")
    assert words in str(ledger_error(Path("ledger.sqlite"), failure))


def test_what_was_committed_survives_a_disk_that_refuses_more(path):
    code = textwrap.dedent(f"""
        import resource, signal
        from pathlib import Path
        from potstill.errors import StoreError
        from potstill.records import Completion, Message, Request, Sampling
        from potstill.store.ledger import Ledger
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        ledger = Ledger(Path({str(path)!r}))
        request = Request((Message("user", "x" * 1000),), Sampling(8))
        try:
            for number in range(1000):
                ledger.intend([f"k{{number}}"], [request], "teacher")
                ledger.record([f"k{{number}}"], [Completion("y" * 1000, "stop")], [0.0])
                print(number, flush=True)
        except StoreError as error:
            print(error)
    """)
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *numbers, message = child.stdout.splitlines()
    assert "ledger.sqlite: the disk" in message
    with Ledger(path) as ledger:
        assert ledger.missing([f"k{number}" for number in numbers]) == []
        assert ledger.get("k0").text == "y" * 1000


def test_what_is_lent_is_answered_there_and_counts_as_nobodys(path, tmp_path):
    other = tmp_path / "other.sqlite"
    Ledger(other).close()
    with Ledger(path, run="mine") as ledger:
        ask(ledger, ["a", "b"])
        ask(ledger, ["c"], FAILURE)
        ledger.lend(other, ["a", "c", "unheard of"])
        assert ledger.merge(other) == 0
        assert ledger.usage().calls == 3
    with Ledger(other, run="mine") as theirs:
        assert theirs.get("a") == ANSWER
        assert theirs.missing(["a", "b", "c"]) == ["b", "c"]
        assert theirs.usage().calls == 0
        assert theirs.spent().calls == 0


def test_recent_calls_are_told_by_model_and_are_those_of_the_run(path):
    now = time.time()
    with Ledger(path, run="mine") as ledger:
        ask(ledger, ["a", "b"])
        ledger.intend(["c"], [REQUEST], "judge", [Cost(1, 70, 0.5)])
        found = ledger.recent(now - 60.0)
        assert {(one.model, one.calls, one.tokens) for one in found if one.model == "judge"} == {("judge", 1, 70.0)}
        assert sum(one.calls for one in found) == 3
        assert sum(one.tokens for one in found) == 2 * 5 + 70
        assert all(now - 1.0 <= one.at <= time.time() for one in found)
        assert ledger.recent(time.time() + 1.0) == []
    with Ledger(path, run="another") as ledger:
        assert ledger.recent(0.0) == []


def test_questions_of_a_provider_s_batch_are_no_recent_calls(path):
    with Ledger(path) as ledger:
        ledger.open_batch("b", "teacher")
        ledger.intend(["in a batch"], [REQUEST], "teacher", batch="b")
        assert ledger.recent(0.0) == []


def test_stretches_of_asking_add_up_by_run_and_the_last_word_on_each_counts(path):
    with Ledger(path, run="mine") as ledger:
        ledger.note_asking(1.0, 40.0, 0.5)
        ledger.note_asking(1.0, 60.0, 0.75)
        ledger.note_asking(1000.0, 7.0, 0.25)
        ask(ledger, ["a"], dollars=2.0)
    with Ledger(path, run="mine") as ledger:
        assert ledger.seconds_asked() == 67.0
        assert ledger.spent().dollars == ledger.dollars() == ledger.usage().dollars == 3.0
    with Ledger(path, run="another") as ledger:
        assert (ledger.seconds_asked(), ledger.spent()) == (0.0, Cost())

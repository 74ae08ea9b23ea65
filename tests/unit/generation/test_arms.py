"""The training sets of an ablation: what a gate alone keeps out is put back, and nothing else changes."""

import pytest
from scripted import Scripted, ask, interview, open_ledger, row, seat

from potstill.generation.arms import accepted_rows, gates_on, put_back, random_rows, rows_without, switched_off
from potstill.records import Completion, Example, Message, Usage
from potstill.spec.sections import GatesSpec, TaskSpec
from potstill.tasks import build_task

SUMMARY = build_task(TaskSpec(type="summarization"))
CONVERSATION = build_task(TaskSpec(type="conversation"))


def said(text: str) -> Completion:
    return Completion(text, "length" if text.endswith("…") else "stop", Usage(3, 2), model="scripted")


def answers(request):
    """Every third answer is cut, every fifth declines, every fifteenth does both."""
    number = int(request.messages[-1].content)
    text = "I can't help with that." if number % 5 == 0 else f"Answer {number}"
    return said(f"{text}…" if number % 3 == 0 else text)


@pytest.fixture
def talks(tmp_path):
    rows = [row(str(number), number=number) for number in range(1, 31)]
    with open_ledger(tmp_path) as ledger:
        found = interview(SUMMARY, ledger, seat(Scripted(answers)))
        ask(found, *rows)
        yield found, rows


def ids(rows):
    return [int(example.id.removeprefix("row-")) for example in rows]


def test_without_a_gate_come_back_the_rows_that_it_alone_dropped(talks):
    on, without = accepted_rows(*talks), rows_without(*talks, "truncation")
    assert ids(on) == [n for n in range(1, 31) if n % 3 and n % 5]
    assert ids(without.rows) == [n for n in range(1, 31) if n % 5]
    assert (without.dropped, without.shortened, without.unanswered) == (8, 0, 0)
    assert [list(without.rows)[place] for place in range(len(without.rows)) if without.rows[place].id in {r.id for r in on}] == list(on)


def test_a_gate_that_drops_nothing_changes_nothing(talks):
    without = rows_without(*talks, "verifier")
    assert list(without.rows) == list(accepted_rows(*talks))
    assert without.dropped == 0


def test_as_many_random_rows_are_left_as_the_gate_keeps(talks):
    on, without = accepted_rows(*talks), rows_without(*talks, "truncation")
    drawn = [ids(random_rows(without.rows, len(on), "truncation", seed)) for seed in (0, 1)]
    assert [len(rows) for rows in drawn] == [len(on)] * 2
    assert all(rows == sorted(set(rows)) and set(rows) <= set(ids(without.rows)) for rows in drawn)
    assert drawn[0] != drawn[1]
    assert drawn[0] == ids(random_rows(without.rows, len(on), "truncation", 0))
    assert drawn[0] != ids(random_rows(without.rows, len(on), "refusal", 0))


def test_looking_at_other_gates_leaves_what_the_ledger_says_of_the_own_ones(talks):
    found, rows = talks
    key = found.outcome(rows[2]).candidates[0].reply.key
    before = found.ledger.verdicts(key, rows[2].id)
    rows_without(found, rows, "truncation")
    assert found.ledger.verdicts(key, rows[2].id) == before


def test_a_conversation_that_a_gate_cut_short_goes_on_without_it_or_counts_as_unanswered(tmp_path):
    def reply(request):
        turn = sum(message.role == "user" for message in request.messages)
        return said("Cut…" if turn == 2 else "Fine.")

    def chat(name, turns):
        said_so = [(Message("user", f"{name} {turn}"), Message("assistant", "Gold.")) for turn in range(turns)]
        return Example(name, tuple(message for pair in said_so for message in pair))

    with open_ledger(tmp_path) as ledger:
        talks = interview(CONVERSATION, ledger, seat(Scripted(reply)))
        rows = [chat("two", 2), chat("three", 3)]
        ask(talks, *rows)
        without = rows_without(talks, rows, "truncation")
    assert [len(example.trained_turns) for example in without.rows] == [2, 1]
    assert (without.dropped, without.shortened, without.unanswered) == (0, 1, 1)


def learnt(text, name="a"):
    return Example(name, (Message("user", "q"), Message("assistant", text)), trained_turns=(1,))


def test_an_answer_that_stood_in_for_a_dropped_one_stays():
    assert put_back((learnt("second"),), (learnt("first"),)) == (learnt("second"),)
    assert put_back((learnt("second"),), (learnt("first"), learnt("second", "a#2"))) == (learnt("second"), learnt("first"))
    assert put_back((learnt("kept"),), ()) == (learnt("kept"),)


def test_each_field_that_turns_a_gate_on_can_be_turned_off():
    gates = GatesSpec(duplicates=True, min_characters=3, judge=0.0, custom=("a:b",), language="en")
    on = gates_on(gates)
    assert {"format", "duplicates", "min_characters", "judge", "custom", "language"} <= set(on)
    assert {"gold", "max_characters"}.isdisjoint(on)
    for name in on:
        assert gates_on(switched_off(gates, name)) == [other for other in on if other != name]

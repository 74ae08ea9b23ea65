"""Asking: a run that goes on asks what is left, each row once, and begins with it."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import Scripted, interview, open_ledger, row, seat

from potstill.generation.asking import Splits, ask_rows, rows_of
from potstill.spec.sections import TaskSpec
from potstill.store.events import EventLog
from potstill.tasks import build_task

TASK = build_task(TaskSpec(type="summarization"))
MANY = [row(f"text {number}", number=number) for number in range(700)]


class Counted(Sequence):
    """Rows that count how many of them were read."""

    def __init__(self, rows):
        self._rows, self.read = rows, 0

    def __len__(self):
        return len(self._rows)

    def __iter__(self):
        return (self[place] for place in range(len(self)))

    def __getitem__(self, place):
        if isinstance(place, slice):
            return (self[each] for each in range(len(self))[place])
        self.read += 1
        return self._rows[place]


def ask(folder, teacher, rows):
    with open_ledger(folder) as ledger:
        ask_rows(interview(TASK, ledger, seat(teacher)), rows_of(rows), len(rows), EventLog())


@given(st.lists(st.lists(st.integers(), max_size=4), max_size=4), st.integers(0, 16), st.integers(0, 16))
def test_rows_between_two_places_are_a_slice_of_all(splits, start, end):
    everything = [each for split in splits for each in split]
    assert list(Splits(splits).between(start, end)) == everything[start:end]


@pytest.mark.parametrize("answered", [[], range(700), range(400), range(200, 500), [*range(0, 300, 3), *range(400, 600)]])
def test_what_an_earlier_process_was_not_answered_is_asked_once_and_nothing_else(tmp_path, answered):
    ask(tmp_path, Scripted(lambda _: "Fine."), [MANY[number] for number in answered])
    later = Scripted(lambda _: "Fine.")
    ask(tmp_path, later, MANY)
    left = sorted({f"text {number}" for number in range(700)} - {f"text {number}" for number in answered})
    assert sorted(request.messages[-1].content for request in later.asked) == left


def test_the_first_new_question_leaves_before_the_answered_rows_are_looked_through(tmp_path):
    ask(tmp_path, Scripted(lambda _: "Fine."), MANY[:600])
    rows, read = Counted(MANY), []

    def answer(request):
        read.append(rows.read)
        return "Fine."

    later = Scripted(answer)
    ask(tmp_path, later, rows)
    assert later.asked[0].messages == MANY[600].messages
    assert read[0] <= 256 + 20  # a window of questions, and a look at some rows
    assert len(later.asked) == 100

"""What kind of task rows are of, read off the shared kinds of data."""

import pytest

from potstill.jobs.guess import guess_task
from potstill.records import Example, Message


def rows(pairs: list[tuple[str, str | None]]) -> list[Example]:
    return [Example(str(n), (Message("user", text),), () if gold is None else (gold,)) for n, (text, gold) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("pairs", "kind"),
    [
        ([(f"message {n}", ["refund", "tracking"][n % 2]) for n in range(8)], "nli"),
        ([(f"is {n} even?", ["yes", "no"][n % 2]) for n in range(4)], "nli"),
        ([(f"{n} plus {n}", str(2 * n)) for n in range(12)], "math"),
        ([(f"a sum with steps {n}", f"First this, then that.\n#### {7 * n}") for n in range(12)], "math"),
        ([(f"Ann number {n} lives in town {n * n}. Where?", f"town {n * n}") for n in range(5)], "qa"),
        ([(f"A long text, the {n}th.", f"It is a text that somebody wrote down as number {n}.") for n in range(5)], "summarization"),
        ([(f"question {n}", None) for n in range(5)], "summarization"),
    ],
)
def test_the_references_tell_the_task(pairs: list[tuple[str, str | None]], kind: str) -> None:
    assert guess_task(rows(pairs)).type == kind


def test_the_labels_of_a_closed_set_are_the_references() -> None:
    assert guess_task(rows([("a", "x"), ("b", "y"), ("c", "x"), ("d", "y")])).labels == ("x", "y")


def test_assistant_turns_among_free_texts_make_a_conversation() -> None:
    turns = (Message("user", "Hi"), Message("assistant", "Hello, how can I help?"), Message("user", "A table for two, please."))
    talk = [Example(str(n), turns, (f"Certainly, table {n} is yours tonight.",)) for n in range(3)]
    assert guess_task(talk).type == "conversation"

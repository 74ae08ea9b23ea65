"""Figures by the names that people ask for."""

from __future__ import annotations

import asyncio
import threading

import pytest

from potstill.errors import DataError, SpecError
from potstill.jobs.scoring import TIMINGS, Scored, ask_row, outside_any_loop, score_names, task_of
from potstill.models.echo import EchoModel
from potstill.records import Example, Message
from potstill.spec import TaskSpec

TALK = [
    Example(str(n), (Message("user", f"Say {word}"), Message("assistant", answer)), ())
    for n, (word, answer) in enumerate([("a whole sentence of words", "Say a whole sentence of words"), ("yes", "No.")])
]


def test_figures_come_back_under_the_names_and_in_the_order_that_were_asked_for() -> None:
    names = ["inference_time", "bleu_score", "accuracy", "ROUGE-L", *TIMINGS]
    found = score_names(EchoModel(), Scored.of(TaskSpec(type="conversation")), TALK, names)
    assert list(found) == list(dict.fromkeys(names))
    assert found["accuracy"] == 0.5
    assert found["inference_time"] > 0


def test_without_names_accuracy_the_tasks_metrics_and_the_time_are_given() -> None:
    found = score_names(EchoModel(), Scored.of(TaskSpec(type="conversation")), TALK, None)
    assert list(found) == ["accuracy", "rouge_l", "chrf", "bleu", "inference_time"]


def test_an_unknown_name_is_refused_with_all_that_are_known() -> None:
    with pytest.raises(SpecError, match=r'no metric "acuracy"; did you mean accuracy\? .*of time: inference_time'):
        score_names(EchoModel(), Scored.of(TaskSpec(type="conversation")), TALK, ["acuracy"])


def test_rows_without_references_are_an_error() -> None:
    with pytest.raises(DataError, match="none of the 1 test questions has one"):
        score_names(EchoModel(), Scored.of(TaskSpec(type="summarization")), [Example("a", (Message("user", "b"),))], ["accuracy"])


def test_an_answer_that_generation_added_is_not_shown_to_the_model() -> None:
    row = Example("a", (Message("user", "q"), Message("assistant", "t")), ("gold",), trained_turns=(1,))
    asked = ask_row(row, "summarization")
    assert ([message.content for message in asked.messages], asked.reference) == (["q"], ("gold",))
    assert ask_row(row, "conversation") is row


def test_labels_of_an_nli_task_are_the_references_of_the_rows() -> None:
    rows = [Example(str(n), (Message("user", "q"),), (label,)) for n, label in enumerate("ab")]
    assert task_of(rows, "NLI")[1] == ("a", "b")
    with pytest.raises(DataError, match="two labels or more"):
        task_of(rows[:1], "nli")


def test_work_leaves_a_running_loop_alone_and_its_errors_come_back() -> None:
    async def notebook() -> None:
        assert outside_any_loop(threading.get_ident) != threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            outside_any_loop(lambda: 1 // 0)

    asyncio.run(notebook())
    assert outside_any_loop(threading.get_ident) == threading.get_ident()

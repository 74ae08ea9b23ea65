"""What teachers are told besides, what is read out of their replies, and that the student never sees the former."""

from dataclasses import replace

import pytest
from scripted import Scripted, ask, interview, open_ledger, row, seat

from potstill.errors import DataError
from potstill.generation.interview import Interview, learnt_rows
from potstill.generation.prompting import build_strategy
from potstill.generation.prompting.base import separate_thinking
from potstill.generation.prompting.examples import Worked, choose_examples
from potstill.records import Completion, Message
from potstill.spec.sections import GatesSpec, PromptingSpec, TaskSpec
from potstill.tasks import build_task
from potstill.tasks.replies import split_reasons

NLI = build_task(TaskSpec(type="nli", labels=("yes", "no")))
SUMMARY = build_task(TaskSpec(type="summarization"))
REASONED = "The sky is blue by day.\nSo it holds.\n\n**Answer:** yes"


@pytest.fixture
def ledger(tmp_path):
    with open_ledger(tmp_path) as opened:
        yield opened


def learnt(judged, learn="answer"):
    return [(found.id, [m.content for m in found.messages]) for found in learnt_rows(judged.outcome, learn)]


def test_chain_of_thought_joins_the_system_prompt_and_the_student_sees_none_of_it(ledger):
    teacher = Scripted(lambda _: REASONED)
    [judged] = ask(interview(NLI, ledger, seat(teacher), prompting={"strategy": "chain_of_thought"}), row("Is the sky blue?"))
    system = teacher.asked[0].messages[0].content
    assert system.startswith("Be kind.\n\n")
    assert "step by step" in system
    assert [m.content for m in judged.rows[0].messages] == ["Be kind.", "Is the sky blue?", "yes"]
    assert judged.rows[0].rationale == "The sky is blue by day.\nSo it holds."


def test_reasons_have_room_of_their_own(ledger):
    teacher = Scripted(lambda _: REASONED)
    ask(interview(NLI, ledger, seat(teacher), prompting={"strategy": "chain_of_thought", "reasoning_tokens": 100}), row("a"))
    assert teacher.asked[0].sampling.max_new_tokens == 116


def test_the_student_learns_answer_or_reasons_before_it_or_both_as_two_tasks(ledger):
    talks = interview(NLI, ledger, seat(Scripted(lambda _: REASONED)), prompting={"strategy": "chain_of_thought"})
    [judged] = ask(talks, row("a"))
    assert learnt(judged)[0][1][-1] == "yes"
    [(_, messages)] = learnt(judged, "rationale_then_answer")
    assert messages[-1] == "The sky is blue by day.\nSo it holds.\n\nAnswer: yes"
    answer, why = learnt(judged, "both")
    assert (answer[0], answer[1][-1]) == ("row-0", "yes")
    assert (why[0], why[1][-1]) == ("row-0#why", "The sky is blue by day.\nSo it holds.")
    assert why[1][1].startswith("a\n\n")


def test_what_a_student_that_reasons_writes_is_read_from_its_last_answer_on():
    task = build_task(TaskSpec(type="nli", labels=("yes", "no"), reasons=True))
    assert task.parse("No cloud stands there, no rain falls.\n\nAnswer: yes") == "yes"
    assert task.parse("no") == "no"
    assert task.max_new_tokens > NLI.max_new_tokens


@pytest.mark.parametrize(
    ("text", "reasons", "answer"),
    [
        (REASONED, "The sky is blue by day.\nSo it holds.", "yes"),
        ("Answer: 4", None, "4"),
        ("Because.\nThe final answer is: 4", "Because.", "4"),
        ("First answer: 3\nNo, wait.\nAnswer: 4", "First answer: 3\nNo, wait.", "4"),
        ("no marker at all", None, "no marker at all"),
        ("Reasons without end\nAnswer:", None, "Reasons without end\nAnswer:"),
    ],
)
def test_reasons_and_answer_are_told_apart_at_the_last_answer(text, reasons, answer):
    assert split_reasons(text) == (reasons, answer)


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        ("<think>Hm.</think>yes", "Hm.", "yes"),
        ("\n<thinking>\nHm.\n</thinking>\n\nyes", "Hm.", "yes"),
        ("Hm, with the opening tag cut off.</think> yes", "Hm, with the opening tag cut off.", "yes"),
        ("<think>torn in the middle", "torn in the middle", ""),
        ("I think so: yes", None, "I think so: yes"),
    ],
)
def test_thinking_is_separated_from_the_answer(text, thought, answer):
    found = separate_thinking(Completion(text, "stop"))
    assert (found.reasoning, found.text) == (thought, answer)


def test_chain_of_density_shows_each_round_the_rounds_before_and_keeps_them_all(ledger):
    rounds = iter(["short", "shorter", "dense"])
    teacher = Scripted(lambda _: next(rounds))
    [judged] = ask(interview(SUMMARY, ledger, seat(teacher), prompting={"strategy": "chain_of_density", "rounds": 3}), row("A long text."))
    assert [len(request.messages) for request in teacher.asked] == [2, 4, 6]
    assert [m.content for m in teacher.asked[-1].messages if m.role == "assistant"] == ["short", "shorter"]
    assert judged.outcome.candidates[0].reply.rounds == ("short", "shorter", "dense")
    assert [m.content for m in judged.rows[0].messages] == ["Be kind.", "A long text.", "dense"]


def test_a_round_that_is_cut_off_leaves_the_one_before(ledger):
    teacher = Scripted(lambda request: "fine" if len(request.messages) == 2 else Completion("half of", "length"))
    [judged] = ask(interview(SUMMARY, ledger, seat(teacher), prompting={"strategy": "chain_of_density"}), row("A long text."))
    assert judged.rows[0].messages[-1].content == "fine"
    assert len(teacher.asked) == 2


def test_an_own_instruction_and_another_version_are_other_questions(ledger):
    teacher = Scripted(lambda _: REASONED)
    for prompting in ({}, {"instruction": "Think hard."}, {"instruction": "Think hard.", "version": "2"}, {"instruction": "Think hard."}):
        ask(interview(NLI, ledger, seat(teacher), prompting={"strategy": "chain_of_thought", **prompting}), row("a"))
    assert [request.messages[0].content for request in teacher.asked][1:] == ["Be kind.\n\nThink hard."] * 2


GOLD = [row(f"question {n}", "yes" if n % 2 else "no", number=n) for n in range(8)]


def test_worked_examples_stand_before_the_question_one_of_each_answer_and_never_the_row_itself(ledger):
    teacher = Scripted(lambda _: "yes")
    talks = interview(NLI, ledger, seat(teacher), prompting={"examples": 2})
    talks.examples = choose_examples(2, build_strategy(talks.generation.prompting), NLI, GOLD)
    judged = ask(talks, *GOLD)
    for request, known in zip(teacher.asked, GOLD, strict=True):
        roles = [message.role for message in request.messages]
        assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
        assert known.messages[-1] not in request.messages[:-1]
    assert {message.content for message in teacher.asked[0].messages if message.role == "assistant"} == {"yes", "no"}
    assert [len(one.rows[0].messages) for one in judged] == [3] * 8


def test_the_examples_do_not_hang_on_the_order_of_the_rows():
    strategy = build_strategy(PromptingSpec())
    assert choose_examples(3, strategy, NLI, GOLD) == choose_examples(3, strategy, NLI, GOLD[::-1])


def test_examples_of_thought_are_rows_with_a_rationale():
    strategy = build_strategy(PromptingSpec(strategy="chain_of_thought"))
    with pytest.raises(DataError, match="only 0 training rows can serve"):
        choose_examples(1, strategy, NLI, GOLD)
    reasoned = [replace(known, rationale="Because.") for known in GOLD]
    assert choose_examples(1, strategy, NLI, reasoned)[0].turns[1].content.startswith("Because.\nAnswer: ")


def test_other_gates_judge_the_answers_to_the_same_questions_worked_examples_included(ledger):
    task, example = build_task(TaskSpec(type="conversation")), row("Hello?")
    worked = [Worked(name, (Message("user", f"{name}?"), Message("assistant", f"{name}!"))) for name in ("example", "spare")]
    talks = Interview(task, (seat(Scripted(lambda _: "I'm sorry, but I can't help with that.")),), ledger, examples=worked)
    assert ask(talks, example)[0].drop is not None
    other = talks.under(GatesSpec(refusal=False)).outcome(example)
    assert other is not None
    assert other.dropped is None

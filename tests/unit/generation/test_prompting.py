"""What teachers are told besides, what is read out of their replies, and that the student never sees the former."""

from dataclasses import replace

import pytest
from scripted import Scripted, ask, interview, open_ledger, row, seat
from slow_teacher import open_run

from potstill.data.held_out import index_held_out
from potstill.errors import DataError
from potstill.generation.interview import Interview, learnt_rows
from potstill.generation.panel import teacher_sampling
from potstill.models.talk import Seat
from potstill.records import Completion, Example, Message
from potstill.spec import RunSpec
from potstill.spec.sections import GatesSpec, GenerationSpec, PersonalDataSpec, PromptingSpec, TaskSpec
from potstill.tasks import build_task
from potstill.tasks.prompting import build_strategy
from potstill.tasks.prompting.base import separate_thinking
from potstill.tasks.prompting.examples import Worked, choose_examples, with_examples
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


@pytest.mark.parametrize(
    ("limit", "reasoning", "room"),
    [
        ({"max_new_tokens": 8}, {"reasoning_tokens": 100}, 108),
        ({"max_new_tokens": 8}, {}, 264),
        ({}, {"reasoning_tokens": 100}, NLI.max_new_tokens + 100),
        ({}, {}, NLI.max_new_tokens + 256),
    ],
)
def test_a_student_that_reasons_has_as_much_room_as_its_teacher(tmp_path, limit, reasoning, room):
    prompting = {"strategy": "chain_of_thought", "learn": "rationale_then_answer", **reasoning}
    spec = open_run(tmp_path, task={"type": "nli", "labels": ["yes", "no"], **limit}, generation={"prompting": prompting}).spec
    task, teacher = build_task(spec.task), Scripted(lambda _: REASONED)
    with open_ledger(tmp_path) as ledger:
        ask(interview(task, ledger, Seat("x", teacher, teacher_sampling(spec, task)), prompting=prompting), row("a"))
    assert [teacher.asked[0].sampling.max_new_tokens, task.max_new_tokens] == [room, room]


def test_the_room_for_reasons_survives_writing_the_spec_down(tmp_path):
    prompting = {"strategy": "chain_of_thought", "learn": "rationale_then_answer", "reasoning_tokens": 100}
    spec = open_run(tmp_path, generation={"prompting": prompting}).spec
    assert RunSpec.model_validate(spec.model_dump(mode="json")) == spec


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
    assert judged.rows[0].rounds == ("short", "shorter", "dense")
    assert Example.from_json(judged.rows[0].to_json()) == judged.rows[0]
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


@pytest.mark.parametrize("origin", [{"source": "example"}, {"source": "example~rare-1", "group": "example"}])
def test_a_new_prompt_is_not_shown_the_row_that_it_was_made_from(origin):
    worked = [Worked(name, (Message("user", f"{name}?"), Message("assistant", f"{name}!"))) for name in ("example", "spare")]
    asked = (Message("user", "new?"),)
    told = with_examples(asked, worked, Example("example~paraphrase-1", asked, **origin))
    assert [message.content for message in told] == ["spare?", "spare!", "new?"]


def reasoned(ledger, task, text, gates=None, **prompting):
    talks = interview(task, ledger, seat(Scripted(lambda _: text)), prompting={"strategy": "chain_of_thought", **prompting}, gates=gates)
    [judged] = ask(talks, row("The sky is blue, and the grass is green."))
    return judged


@pytest.mark.parametrize(
    "text",
    ["The premise says so. So the answer is yes.", "It holds.\nAnswer: yes\n\nLet me know if you need more.", "Answer: yes"],
)
def test_where_a_label_says_all_the_label_alone_is_learnt(ledger, text):
    assert learnt(reasoned(ledger, NLI, text))[0][1][-1] == "yes"


def test_free_text_that_cannot_be_told_from_its_reasons_is_dropped(ledger):
    text = "The text names two colours. So that is the summary."
    judged = reasoned(ledger, SUMMARY, text)
    assert (judged.rows, judged.drop[0].gate, judged.drop[0].code) == ((), "format", "no_answer_line")


def test_thinking_tells_reasons_from_the_answer_too(ledger):
    judged = reasoned(ledger, SUMMARY, "<think>Two colours.</think>Sky and grass have colours.")
    assert (judged.rows[0].messages[-1].content, judged.rows[0].rationale) == ("Sky and grass have colours.", "Two colours.")


MAIL = "Ask jane.doe@example.com for it."


@pytest.mark.parametrize("learn", ["answer", "rationale_then_answer", "both"])
def test_personal_data_is_masked_in_reasons_too(ledger, learn):
    judged = reasoned(ledger, NLI, f"{MAIL}\nAnswer: yes", GatesSpec(personal_data=PersonalDataSpec()), learn=learn)
    rows = [str(found.to_json()) for found in judged.rows]
    assert all("[EMAIL]" in text and "jane.doe" not in text for text in rows)


def test_reasons_with_personal_data_drop_the_answer_where_the_spec_says_so(ledger):
    judged = reasoned(ledger, NLI, f"{MAIL}\nAnswer: yes", GatesSpec(personal_data=PersonalDataSpec(action="drop")))
    assert (judged.rows, judged.drop[0].gate, judged.drop[0].code) == ((), "personal_data", "email")


def test_personal_data_is_masked_in_drafts_too(ledger):
    rounds = iter([MAIL, "dense"])
    talks = interview(
        SUMMARY,
        ledger,
        seat(Scripted(lambda _: next(rounds))),
        prompting={"strategy": "chain_of_density", "rounds": 2},
        gates=GatesSpec(personal_data=PersonalDataSpec()),
    )
    [judged] = ask(talks, row("A long text."))
    assert judged.rows[0].rounds == ("Ask [EMAIL] for it.", "dense")


@pytest.mark.parametrize(("learn", "kept"), [("answer", True), ("rationale_then_answer", False), ("both", False)])
def test_reasons_that_are_learnt_may_not_give_a_test_row_away(ledger, learn, kept):
    waits = "It waits at the customs office in Leipzig, and will be with you by Friday noon, I promise."
    held_out = index_held_out([], [], [Example("t", (Message("user", "Where is my parcel now?"),), (waits,))])
    spec = GenerationSpec(prompting=PromptingSpec(strategy="chain_of_thought", learn=learn))
    talks = Interview(NLI, [seat(Scripted(lambda _: f"{waits}\nAnswer: yes"))], ledger, generation=spec, held_out=held_out)
    [judged] = ask(talks, row("Any news?"))
    assert bool(judged.rows) is kept

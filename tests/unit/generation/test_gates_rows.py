"""The gates of rows that compare: with earlier rows, with held-out rows, with the row's own reference."""

import pytest
from gates_at_hand import CHOICE, CONVERSATION, EXTRACTIVE, MATH, NLI, OPEN, TRANSLATION, context, said

from potstill.data.earlier import EarlierRows
from potstill.data.held_out import index_held_out
from potstill.generation.gates import UNSCORED, pass_gates
from potstill.records import Completion, Example, Message, Usage
from potstill.spec.sections import GatesSpec

QUESTION = "My parcel was to come on Monday, and now it is Thursday: where is it, and when shall I have it at last?"
TEST = Example(
    "t-1", (Message("user", QUESTION),), ("It waits at the customs office in Leipzig, and will be with you by Friday noon, I promise.",)
)
VALIDATION = Example("v-1", (Message("user", "Can the blue jacket be changed for a green one once the label has been cut off?"),))
HELD_OUT = index_held_out([], [VALIDATION], [TEST])
UNIQUE = GatesSpec(duplicates=True)


def judged(asked, text, **more):
    return said("contamination", text, scope="row", asked=asked, held_out=HELD_OUT, **more)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (QUESTION, "runs"),
        (QUESTION.upper().replace(",", ""), "runs"),
        (f"A customer writes: {QUESTION} Answer in one sentence, please.", "runs"),
        (QUESTION.replace("parcel", "package").replace("last", "once").replace("now", "today"), "paraphrase"),
        ("Where is it, and when shall I have it at last? My parcel was to come on Monday, and now it is Thursday.", "paraphrase"),
        ("At last, when shall I have my parcel, and where is it now? It was to come on Monday: it is Thursday!", "paraphrase"),
    ],
)
def test_a_row_that_asks_what_a_test_row_asks_is_dropped(asked, code):
    found = judged(asked, "Soon.")
    assert (found.keep, found.code) == (False, code)
    assert "test row 1" in found.reason


@pytest.mark.parametrize(
    "asked", ["Where is my parcel?", "It is Thursday at last, and the green jacket has come; thank you for it, it is lovely indeed."]
)
def test_other_questions_in_like_words_are_kept(asked):
    assert judged(asked, "Soon.").keep


def test_an_answer_that_repeats_a_test_row_or_its_reference_is_dropped():
    assert judged("What do people ask?", f"For example: {QUESTION}").code == "runs"
    assert judged("Any news?", TEST.reference[0]).code == "runs"


def test_validation_rows_are_compared_with_test_rows_alone():
    same = VALIDATION.messages[0].content
    assert judged(same, "Yes.").reason.startswith("gives validation row 1 away")
    assert judged(same, "Yes.", validation=True).keep
    assert not judged(QUESTION, "Yes.", validation=True).keep


def test_every_turn_of_a_conversation_is_compared():
    messages = (Message("user", "Hello!"), Message("assistant", "Hello."), Message("user", QUESTION))
    row = Example("row-1", messages)
    found = context("Soon.", held_out=HELD_OUT)
    found = type(found)(row, CONVERSATION, messages, Completion("Soon.", "stop", Usage()), held_out=HELD_OUT)
    assert not pass_gates(found, GatesSpec(), "row")[-1].keep


def test_the_system_prompt_is_not_compared():
    messages = (Message("system", QUESTION), Message("user", "Hello!"))
    found = type(context(""))(Example("row-1", messages), CONVERSATION, messages, Completion("Hi.", "stop", Usage()), held_out=HELD_OUT)
    assert pass_gates(found, GatesSpec(), "row")[-1].keep


def test_the_first_of_several_like_rows_is_kept_and_named():
    earlier = EarlierRows(0.8)
    answers = ["It is on its way to you and arrives tomorrow.", "It is on its way to you, and arrives TOMORROW!"]
    verdicts = [
        said("duplicates", text, UNIQUE, "row", asked=asked, earlier=earlier, name=f"row-{number}")
        for number, (asked, text) in enumerate(
            [(QUESTION, answers[0]), (QUESTION, answers[0].upper()), (f"{QUESTION} Please tell me.", answers[1])]
        )
    ]
    assert [(found.keep, found.code) for found in verdicts] == [(True, ""), (False, "exact"), (False, "near")]
    assert all('"row-0"' in found.reason for found in verdicts[1:])


def test_a_like_question_with_another_answer_is_no_duplicate():
    earlier = EarlierRows(0.8)
    for label in ("yes", "no"):
        assert said("duplicates", label, UNIQUE, "row", task=NLI, asked=QUESTION, earlier=earlier).keep


GOLD = [
    (NLI, "yes", ["yes"], True),
    (NLI, "Yes.", ["no", "yes"], True),
    (NLI, "no", ["yes"], False),
    (MATH, "That makes 3 + 4 = 7.", ["7"], True),
    (MATH, "#### 0.5", ["1/2"], True),
    (MATH, "8", ["7"], False),
    (CHOICE, "(b) Paris", ["B"], True),
    (CHOICE, "A", ["B"], False),
    (EXTRACTIVE, "the Rhine", ["Rhine"], True),
    (EXTRACTIVE, "Danube", ["Rhine"], False),
    (OPEN, "It flows into the North Sea", ["into the North Sea"], True),
    (OPEN, "Nobody can know", ["into the North Sea"], False),
]


@pytest.mark.parametrize(("task", "text", "reference", "keeps"), GOLD)
def test_an_answer_is_held_against_the_reference_as_the_task_compares(task, text, reference, keeps):
    found = said("gold", text, GatesSpec(gold=True), "row", task=task, reference=reference)
    assert (found.keep, found.code) == (keeps, "" if keeps else "disagrees")


@pytest.mark.parametrize(("task", "reference"), [(NLI, []), (TRANSLATION, ["Guten Tag"]), (CONVERSATION, ["Good day"])])
def test_without_a_reference_or_where_many_wordings_are_right_nothing_is_dropped(task, reference):
    found = said("gold", "yes", GatesSpec(gold=True), "row", task=task, reference=reference)
    assert (found.keep, found.code) == (True, UNSCORED)

"""Labels: how they are asked for, and found in replies."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import SpecError
from potstill.records import Example, Message
from potstill.spec.sections import TaskSpec
from potstill.tasks import Task, build_task

INFERENCE = ("entailment", "neutral", "contradiction")
CARDS = ("card", "card_arrival", "lost-card", "pending card payment")
ODD = ("-1", "0", "1", "C", "C++", "n/a")
YES = ("safe", "unsafe", "not_safe_at_all")


def nli(*labels: str) -> Task:
    return build_task(TaskSpec(type="nli", labels=labels))


@pytest.mark.parametrize(
    ("labels", "reply", "label"),
    [
        (INFERENCE, "neutral", "neutral"),
        (INFERENCE, "  Neutral\n", "neutral"),
        (INFERENCE, "NEUTRAL.", "neutral"),
        (INFERENCE, '"neutral"', "neutral"),
        (INFERENCE, "“Neutral.”", "neutral"),
        (INFERENCE, "**neutral**", "neutral"),
        (INFERENCE, "`neutral`", "neutral"),
        (INFERENCE, "- neutral", "neutral"),
        (INFERENCE, "1. neutral", "neutral"),
        (INFERENCE, "(neutral)", "neutral"),
        (INFERENCE, "\\boxed{neutral}", "neutral"),
        (INFERENCE, "Label: neutral", "neutral"),
        (INFERENCE, "**Label:** neutral", "neutral"),
        (INFERENCE, "The answer is neutral.", "neutral"),
        (INFERENCE, "The correct label is: *neutral*", "neutral"),
        (INFERENCE, "The answer is neutral because nothing speaks for a contradiction.", "neutral"),
        (INFERENCE, '{"label": "neutral"}', "neutral"),
        (INFERENCE, "I would say this is neutral, all in all", "neutral"),
        (INFERENCE, "neutral\n\nThe premise is no contradiction.", "neutral"),
        (INFERENCE, "It could be entailment, or a contradiction.\nneutral", "neutral"),
        (INFERENCE, "One might think of entailment.\n\nAnswer: neutral", "neutral"),
        (INFERENCE, "First the answer is entailment. No: the answer is neutral.", "neutral"),
        (INFERENCE, "The label is entailment.\nThe label is neutral.", "neutral"),
        (INFERENCE, "entailment or neutral", None),
        (INFERENCE, "entailment\n\nno, wait\n\nneutral", None),
        (INFERENCE, "This is not entailment.", None),
        (INFERENCE, "The answer is not entailment but neutral.", None),
        (INFERENCE, "neutrality", None),
        (INFERENCE, "I cannot help with that.", None),
        (CARDS, "card arrival", "card_arrival"),
        (CARDS, "Card-Arrival", "card_arrival"),
        (CARDS, "card", "card"),
        (CARDS, "It is about card arrival.", "card_arrival"),
        (CARDS, "It is about a card.", "card"),
        (CARDS, "a card, and a lost card", None),
        (CARDS, "lost card arrival", None),
        (CARDS, "this pending_card_payment", "pending card payment"),
        (CARDS, "cards", None),
        (ODD, "-1", "-1"),
        (ODD, "1", "1"),
        (ODD, "**0**.", "0"),
        (ODD, "Label: -1", "-1"),
        (ODD, "The answer is C, as it says.", "C"),
        (ODD, "c++", "C++"),
        (ODD, "It is C++ code.", "C++"),
        (ODD, "N/A", "n/a"),
        (ODD, "there is 1 reason", None),
        (YES, "unsafe", "unsafe"),
        (YES, "This is not safe at all!", "not_safe_at_all"),
        (YES, "This is not safe.", None),
        (YES, "This isn't safe", None),
    ],
)
def test_the_label_of_a_reply_is_found_or_none_is_given(labels: tuple[str, ...], reply: str, label: str | None) -> None:
    assert nli(*labels).parse(reply) == label


def distinct(labels: list[str]) -> Task | None:
    try:
        return nli(*labels)
    except SpecError:  # empty, or not to be told apart
        return None


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=6, unique=True).map(distinct).filter(bool))
def test_a_label_is_parsed_as_itself_whatever_it_is(task: Task) -> None:
    for label in task.labels:  # type: ignore[attr-defined]
        assert task.parse(label) == label


names = st.lists(st.from_regex(r"[a-z]{2,6}([_ -][a-z]{2,6}){0,2}", fullmatch=True), min_size=2, max_size=8, unique=True)


@settings(max_examples=200, deadline=None)
@given(
    names.map(distinct).filter(bool),
    st.sampled_from(["{}", " {}.", "**{}**", '"{}"', "`{}`\n", "- {}", "({})", "\n{}!"]),
    st.sampled_from([str, str.upper, str.title, lambda label: label.replace("_", " ").replace("-", " ")]),
)
def test_a_label_alone_is_found_in_any_dress(task: Task, dress: str, case: type[str]) -> None:
    for label in task.labels:  # type: ignore[attr-defined]
        assert task.parse(dress.format(case(label))) == label


def test_the_default_instruction_lists_every_label() -> None:
    rendered = nli(*CARDS).render(Example("x", (Message("user", "Where is it?"),)))
    assert rendered is not None
    system, user = rendered
    assert system.role == "system"
    assert all(f"- {label}" in system.content.splitlines() for label in CARDS)
    assert user.content == "Where is it?"


def test_the_default_instruction_gives_way_to_the_specs_own() -> None:
    task = build_task(TaskSpec(type="nli", labels=INFERENCE, instruction="Decide."))
    assert task.render(Example("x", (Message("user", "?"),))) == (Message("system", "Decide."), Message("user", "?"))


def test_labels_from_the_data_are_those_given() -> None:
    task = build_task(TaskSpec(type="nli", labels_from="data"), INFERENCE)
    assert task.parse("Neutral") == "neutral"


def test_the_specs_labels_win_over_those_found_in_the_data() -> None:
    task = build_task(TaskSpec(type="nli", labels=INFERENCE), ("a", "b"))
    assert task.parse("neutral") == "neutral"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((), "at least two labels, found 0"),
        (("one",), "at least two labels, found 1"),
        (("one", " "), "a label is empty"),
        (("Card", "card"), '"Card" and "card" cannot be told apart'),
        (("card arrival", "card_arrival"), "cannot be told apart"),
    ],
)
def test_labels_that_cannot_be_chosen_between_are_refused(labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        build_task(TaskSpec(type="nli", labels_from="data"), labels)


def test_gold_labels_take_the_sets_own_spelling() -> None:
    example = Example("x", (Message("user", "?"),), ("Neutral",))
    assert nli(*INFERENCE).expand(example)[0].reference == ("neutral",)


def test_disagreement_with_the_gold_label_is_not_proof() -> None:
    example = Example("x", (Message("user", "?"),), ("neutral",))
    assert nli(*INFERENCE).verify(example, "entailment") is None


def test_a_gold_label_outside_the_set_is_not_taken_for_one_that_it_mentions() -> None:
    example = Example("x", (Message("user", "?"),), ("hardly neutral",))
    assert nli(*INFERENCE).expand(example)[0].reference == ("hardly neutral",)

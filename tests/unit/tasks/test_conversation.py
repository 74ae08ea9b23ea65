"""Conversations, round by round."""

from hypothesis import given
from hypothesis import strategies as st

from potstill.records import Example, Message
from potstill.spec.sections import TaskSpec
from potstill.tasks import build_task

TASK = build_task(TaskSpec(type="conversation", instruction="Be kind."))
SYSTEM = Message("system", "Be kind.")


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


CLOSED = Example("x", (user("u1"), assistant("gold1"), user("u2"), assistant("gold2")), tags=("t",))
OPEN = Example("x", (user("u1"), assistant("gold1"), user("u2")), ("gold2",))


def rounds(example: Example) -> list[tuple[Message, ...]]:
    """What a model is asked that answers r1, r2, ..."""
    asked: list[tuple[Message, ...]] = []
    while (messages := TASK.render(example, [f"r{number}" for number in range(1, len(asked) + 1)])) is not None:
        asked.append(messages)
    return asked


def test_each_round_shows_the_replies_so_far_in_place_of_the_rows_own() -> None:
    expected = [(SYSTEM, user("u1")), (SYSTEM, user("u1"), assistant("r1"), user("u2"))]
    assert rounds(CLOSED) == expected


def test_a_last_user_turn_is_asked_too() -> None:
    assert rounds(OPEN) == rounds(CLOSED)


def test_a_greeting_before_the_first_question_stays() -> None:
    greeted = Example("x", (assistant("hello"), user("u1"), assistant("gold1"), user("u2")))
    expected = [(SYSTEM, assistant("hello"), user("u1")), (SYSTEM, assistant("hello"), user("u1"), assistant("r1"), user("u2"))]
    assert rounds(greeted) == expected


def test_a_rows_system_prompt_is_kept_in_every_round() -> None:
    own = Message("system", "Own.")
    assert [messages[0] for messages in rounds(Example("x", (own, *CLOSED.messages)))] == [own, own]


@given(st.integers(1, 6), st.booleans(), st.booleans())
def test_gold_replies_are_never_shown_and_every_user_turn_is_asked(turns: int, system: bool, closed: bool) -> None:
    messages = [turn for number in range(turns) for turn in (user(f"u{number}"), assistant(f"gold{number}"))]
    messages = messages if closed else messages[:-1]
    example = Example("x", (*([Message("system", "s")] if system else []), *messages))
    asked = rounds(example)
    assert [messages[-1].content for messages in asked] == [f"u{number}" for number in range(turns)]
    assert not any("gold" in message.content for messages in asked for message in messages)
    assert len(TASK.expand(example)) == turns


def test_a_conversation_is_scored_turn_by_turn_after_its_own_history() -> None:
    first, second = TASK.expand(CLOSED)
    assert (first.id, first.messages, first.reference) == ("x#1", (user("u1"),), ("gold1",))
    assert (second.id, second.messages, second.reference) == ("x#2", (user("u1"), assistant("gold1"), user("u2")), ("gold2",))


def test_a_question_is_asked_with_its_whole_history() -> None:
    _, second = TASK.expand(CLOSED)
    assert TASK.render(second) == (SYSTEM, user("u1"), assistant("gold1"), user("u2"))
    assert TASK.render(second, ["r"]) is None


def test_a_last_user_turn_is_scored_against_the_rows_reference() -> None:
    assert [question.reference for question in TASK.expand(OPEN)] == [("gold1",), ("gold2",)]
    assert TASK.expand(Example("x", OPEN.messages))[-1].reference == ()


def test_the_questions_of_a_row_are_of_one_group() -> None:
    assert {question.group for question in TASK.expand(CLOSED)} == {"x"}
    grouped = Example("x", CLOSED.messages, group="g")
    assert {question.group for question in TASK.expand(grouped)} == {"g"}


def test_questions_keep_the_tags_and_name_no_trained_turns() -> None:
    answered = Example("x", CLOSED.messages, tags=("t",), trained_turns=(1, 3))
    assert {(question.tags, question.trained_turns) for question in TASK.expand(answered)} == {(("t",), ())}

"""Each format is read as what it means, and each fault of a row is named."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.data.rows import LEARNT_ANYWAY, NOT_A_REFERENCE, read_row
from potstill.records import Example, Message

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Why?"}
ANSWER = {"role": "assistant", "content": " Because. "}


def read(raw: dict[str, object], conversation: bool = False) -> Example:
    found = read_row(raw, name="train-1", conversation=conversation)
    assert isinstance(found, Example), found
    return found


@pytest.mark.parametrize(
    "raw",
    [
        {"messages": [USER], "reference": "Because."},
        {"messages": [USER, ANSWER]},
        {"prompt": "Why?", "completion": "Because.\n"},
    ],
    ids=["potstill", "openai", "prompt and completion"],
)
def test_all_formats_of_one_question_are_one_example(raw: dict[str, object]) -> None:
    assert read(raw) == Example("train-1", (Message("user", "Why?"),), ("Because.",))


def test_azure_rows_without_an_answer_have_no_reference() -> None:
    assert read({"messages": [SYSTEM, USER]}) == Example("train-1", (Message("system", "Be brief."), Message("user", "Why?")))


def test_a_conversation_stays_whole() -> None:
    found = read({"messages": [SYSTEM, USER, ANSWER, USER, ANSWER]}, conversation=True)
    assert [message.role for message in found.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert found.reference == ()


def test_earlier_assistant_turns_of_a_question_stay_as_examples() -> None:
    found = read({"messages": [USER, ANSWER, USER, ANSWER]})
    assert [message.role for message in found.messages] == ["user", "assistant", "user"]
    assert found.reference == ("Because.",)


def test_openai_rows_with_a_developer_turn_and_text_in_parts_are_read() -> None:
    parts = [{"type": "text", "text": "Why"}, {"type": "text", "text": "is that?"}]
    found = read({"messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}, ANSWER]})
    assert found == Example("train-1", (Message("system", "Be brief."), Message("user", "Why\nis that?")), ("Because.",))


def test_a_greeting_opens_a_conversation_and_no_other_row() -> None:
    found = read({"messages": [SYSTEM, ANSWER, USER, ANSWER, USER]}, conversation=True)
    assert [message.role for message in found.messages] == ["system", "assistant", "user", "assistant", "user"]
    assert isinstance(read_row({"messages": [SYSTEM, ANSWER, ANSWER, USER]}, name="x", conversation=True), list)
    assert isinstance(read_row({"messages": [SYSTEM, ANSWER, USER]}, name="x", conversation=False), list)


def remarks_on(raw: dict[str, object], conversation: bool = False) -> tuple[Example, list[str]]:
    remarks: list[str] = []
    found = read_row(raw, name="train-1", conversation=conversation, remarks=remarks)
    assert isinstance(found, Example), found
    return found, remarks


def test_an_answer_of_weight_0_is_no_reference_and_that_is_said() -> None:
    found, remarks = remarks_on({"messages": [USER, {**ANSWER, "weight": 0}]})
    assert found == Example("train-1", (Message("user", "Why?"),))
    assert remarks == [NOT_A_REFERENCE]
    found, _ = remarks_on({"messages": [USER, {**ANSWER, "weight": 0}], "reference": "Therefore."})
    assert found.reference == ("Therefore.",)


def test_weights_that_ask_for_nothing_else_than_what_is_done_are_not_remarked_on() -> None:
    found, remarks = remarks_on({"messages": [USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "weight": 1}]})
    assert (found.reference, remarks) == (("Because.",), [])


def test_a_turn_of_weight_0_within_a_conversation_is_remarked_on() -> None:
    _, remarks = remarks_on({"messages": [USER, {**ANSWER, "weight": 0}, USER, ANSWER]}, conversation=True)
    assert remarks == [LEARNT_ANYWAY]


def test_a_conversation_that_ends_with_an_answer_takes_no_other_reference() -> None:
    found = read_row({"messages": [USER, ANSWER], "reference": "No."}, name="x", conversation=True)
    assert found == ['the gold answer stands twice, in "reference" and in the last assistant turn; keep one']


def test_half_characters_are_shown_escaped() -> None:
    for raw in ({"messages": [{"role": "\ud800", "content": "x"}]}, {"\ud800": 1}, {"prompt": "Why?", "tags": "\ud800"}):
        found = read_row(raw, name="x", conversation=False)
        assert isinstance(found, list)
        assert "\\ud800" in "".join(found).encode().decode()


def test_an_own_id_goes_before_the_line_number() -> None:
    assert read({"id": 7, "prompt": "Why?"}).id == "7"


def test_null_means_absent() -> None:
    raw = {"prompt": "Why?", "completion": None, "id": None, "group": None, "tags": None, "reference": None, "rationale": None}
    assert read(raw) == read({"prompt": "Why?"})


def test_keys_of_other_tools_are_passed_over() -> None:
    assert read({"prompt": "Why?", "source": "forum", "score": 3}) == read({"prompt": "Why?"})


FAULTS = [
    ({"messages": [{"role": "asistant", "content": "x"}]}, 'role "asistant" is not one of system, user, assistant (message 1)'),
    ({"messages": [{"role": "human", "content": "x"}]}, 'write "user"'),
    ({"messages": [{"content": "x"}]}, 'message 1 has no "role" (one of system, user, assistant)'),
    ({"messages": [{"role": "user"}]}, "message 1 has no content"),
    ({"messages": [{"role": "user", "content": ""}]}, "message 1: content is empty"),
    ({"messages": [{"role": "user", "content": " \n"}]}, "message 1: content is empty"),
    ({"messages": [{"role": "user", "content": ["x"]}]}, "message 1: content is a list, must be text"),
    ({"messages": [{"role": "user", "content": []}]}, "message 1: content is a list, must be text"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "message 1: content has a part without its text"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url"}]}]},
        'message 1: content has parts of type "image_url"; only text can be learnt',
    ),
    ({"messages": [{"role": "user", "content": 3}]}, "message 1: content is a number, must be text"),
    ({"messages": [{"role": "user", "content": None}]}, "message 1: content is null, must be text"),
    ({"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [1]}]}, "message 2: is a tool call"),
    ({"messages": [{"role": "user", "content": "a\0b"}]}, "message 1: content holds a NUL character"),
    ({"messages": [{"role": "user", "content": "\ud83d"}]}, "message 1: content holds half a character (\\ud83d"),
    ({"messages": [USER, SYSTEM]}, "message 2 is a system turn; a system turn stands first or nowhere"),
    ({"messages": [USER, USER]}, "message 2 is a second user turn in a row; user and assistant alternate"),
    ({"messages": [USER, ANSWER, ANSWER]}, "message 3 is a second assistant turn in a row"),
    ({"messages": [ANSWER, USER]}, "message 1 is an assistant turn; the first turn after the system turn must be the user's"),
    ({"messages": [SYSTEM]}, '"messages" holds no user turn'),
    ({"messages": []}, '"messages" holds no user turn'),
    ({"messages": "Why?"}, '"messages" is text, must be a list of turns'),
    ({"messages": None}, '"messages" is null, must be a list of turns'),
    ({"messages": ["Why?"]}, "message 1 is text, must be an object"),
    ({"messages": [USER], "prompt": "Why?"}, 'has both "messages" and "prompt"; keep one'),
    ({"question": "Why?"}, 'has neither "messages" nor "prompt"; its keys: "question"'),
    ({}, "its keys: none"),
    ({"prompt": ""}, '"prompt" is empty'),
    ({"prompt": None}, '"prompt" is null, must be text'),
    ({"prompt": "Why?", "completion": 3}, '"completion" is a number, must be text'),
    ({"prompt": "Why?", "refrence": "x"}, 'key "refrence" is not known; did you mean "reference"?'),
    ({"prompt": "Why?", "reference": 15}, '"reference" is a number, must be text or a list of texts; write "15" in quotes'),
    ({"prompt": "Why?", "reference": []}, '"reference" is an empty list; leave it out'),
    ({"prompt": "Why?", "reference": ["x", 3]}, '"reference" holds a number'),
    ({"prompt": "Why?", "reference": ""}, '"reference" is empty'),
    ({"prompt": "Why?", "reference": "x", "completion": "y"}, 'the gold answer stands twice, in "reference" and in "completion"'),
    ({"messages": [USER, ANSWER], "reference": "x"}, 'in "reference" and in the last assistant turn; keep one'),
    ({"prompt": "Why?", "id": ""}, '"id" is empty'),
    ({"prompt": "Why?", "id": True}, '"id" is true, must be text'),
    ({"prompt": "Why?", "group": ["x"]}, '"group" is a list, must be text'),
    ({"prompt": "Why?", "rationale": 3}, '"rationale" is a number, must be text'),
    ({"prompt": "Why?", "tags": "a"}, '"tags" is "a", must be a list of texts'),
    ({"prompt": "Why?", "tags": [""]}, '"tags" holds a text that is empty'),
    ({"messages": [USER], "trained_turns": [0]}, '"trained_turns" is [0], must list positions of assistant turns'),
]


@pytest.mark.parametrize(("raw", "message"), FAULTS, ids=[message[:50] for _, message in FAULTS])
def test_each_fault_has_its_message(raw: dict[str, object], message: str) -> None:
    found = read_row(raw, name="train-1", conversation=False)
    assert isinstance(found, list)
    assert any(message in problem for problem in found), found
    assert len(found) == 1


def test_all_faults_of_a_row_are_told() -> None:
    found = read_row(
        {"messages": [{"role": "bot", "content": "x"}, {"role": "user", "content": ""}], "id": []}, name="x", conversation=False
    )
    assert isinstance(found, list)
    assert len(found) == 3


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)
dialogues = st.lists(texts, min_size=1, max_size=6).map(
    lambda contents: tuple(Message("user" if position % 2 == 0 else "assistant", text) for position, text in enumerate(contents))
)
examples = st.builds(
    Example,
    id=texts,
    messages=dialogues,
    reference=st.lists(texts.map(str.strip), max_size=3).map(tuple),
    rationale=st.none() | texts,
    group=st.none() | texts,
    tags=st.lists(texts, max_size=2).map(tuple),
).map(lambda example: replace(example, reference=()) if example.messages[-1].role == "assistant" else example)


@given(examples)
def test_an_example_survives_json_and_reading(example: Example) -> None:
    raw = json.loads(json.dumps(example.to_json(), ensure_ascii=False))
    assert Example.from_json(raw) == example
    assert read_row(raw, name="other", conversation=True) == example


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_no_value_of_any_key_crashes_the_reader(value: object) -> None:
    for key in ("messages", "prompt", "completion", "reference", "id", "group", "tags", "rationale", "trained_turns", "system"):
        found = read_row({"prompt": "Why?", key: value}, name="x", conversation=False)
        assert isinstance(found, Example | list)
    found = read_row({"messages": [value, {"role": value, "content": value}]}, name="x", conversation=False)
    assert isinstance(found, list)

"""The format gate: what it can read, how it says that it did, and what it hands on."""

import json

import pytest
from gates_at_hand import CHOICE, CONVERSATION, EXTRACTIVE, MATH, NLI, OPEN, said
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import SpecError
from potstill.spec.sections import GatesSpec

LABEL_SCHEMA = '{"type": "object", "properties": {"label": {"enum": ["yes", "no"]}}, "required": ["label"], "additionalProperties": false}'


@pytest.mark.parametrize(
    ("task", "text", "code"),
    [
        (NLI, "yes", ""),
        (NLI, " yes\n", ""),
        (NLI, "Yes", "case"),
        (NLI, "not_sure", "case"),
        (NLI, "Yes.", "punctuation"),
        (NLI, "**no**", "punctuation"),
        (NLI, "The answer is yes.", "sentence"),
        (NLI, "<think>Hm, no... yes!</think>no", "reasoning"),
        (NLI, "```\nyes\n```", "fenced"),
        (NLI, "```text\nno\n```", "fenced"),
        (MATH, "4", ""),
        (MATH, "So 2 + 2 = 4 apples.", "sentence"),
        (CHOICE, "B", ""),
        (CHOICE, "(b)", "punctuation"),
        (CHOICE, "B. Paris", "sentence"),
        (OPEN, "Paris", ""),
        (OPEN, '"Paris"', "punctuation"),
        (OPEN, "Answer: Paris", "sentence"),
        (EXTRACTIVE, "Hello", ""),
        (CONVERSATION, "```\nls -l\n```", ""),
        (CONVERSATION, "Good morning! How can I help?", ""),
    ],
)
def test_how_an_answer_was_read_is_recorded(task, text, code):
    found = said("format", text, task=task, asked="Hello, B?")
    assert (found.keep, found.code) == (True, code)


@pytest.mark.parametrize("text", ["```\nyes\n```", "```text\nyes\n```", "~~~\nyes\n~~~"])
def test_what_was_fenced_is_handed_on_bare(text):
    assert said("format", text, task=NLI).text == "yes"


@pytest.mark.parametrize("text", ["Perhaps.", "yes or no", "<think>yes", "```\nperhaps\n```", "42"])
def test_what_gives_no_label_is_unreadable(text):
    found = said("format", text, task=NLI)
    assert (found.keep, found.code) == (False, "unreadable")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"label": "yes"}', ""),
        (' {"label": "yes"}\n', ""),
        ('```json\n{"label": "yes"}\n```', "fenced"),
        ('```\n{"label": "yes"}```', "fenced"),
        ('Here it is:\n```json\n{"label": "yes"}\n```\nAnything else?', "sentence"),
        ('Sure: {"label": "yes"} as [you] asked.', "sentence"),
        ('<think>{"label": "no"}</think>{"label": "yes"}', "reasoning"),
    ],
)
def test_json_is_found_read_and_handed_on_bare(text, code):
    found = said("format", text, task=NLI, schema=LABEL_SCHEMA)
    assert (found.keep, found.code) == (True, code)
    assert json.loads(found.text or text) == {"label": "yes"}
    assert (found.text is None) == (text.strip() == '{"label": "yes"}')


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("yes", "json", "no JSON"),
        ('{"label": "yes"', "json", "no JSON"),
        ('{"label": "yes"} or {"label": "no"}', "json", "no JSON"),
        ('{"label": NaN}', "json", "no JSON"),
        ("[" * 100_000, "json", "no JSON"),
        ("1" * 5_000, "json", "no JSON"),
        ('{"label": "perhaps"}', "schema", "label: 'perhaps' is not one of"),
        ("{}", "schema", "'label' is a required property"),
        ('{"label": "yes", "why": 1}', "schema", "why"),
        ('["yes"]', "schema", "not of type 'object'"),
    ],
)
def test_what_is_no_json_or_breaks_the_schema_is_dropped_with_the_place(text, code, words):
    found = said("format", text, GatesSpec(truncation=False), task=CONVERSATION, schema=LABEL_SCHEMA)
    assert (found.keep, found.code) == (False, code)
    assert words in found.reason
    assert len(found.reason) < 300


@given(st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text('ab{["`\n ', max_size=5), st.lists, max_leaves=8))
def test_fencing_json_changes_how_it_is_read_and_nothing_else(value):
    bare = json.dumps({"value": value})
    found = said("format", f"```json\n{bare}\n```", task=CONVERSATION, schema="{}")
    assert (found.keep, found.code) == (True, "fenced")
    assert found.text == bare


def test_a_schema_that_is_none_or_points_outside_is_refused_and_nothing_is_fetched():
    with pytest.raises(SpecError, match="is no schema"):
        said("format", "{}", schema='{"type": "objekt"}')
    with pytest.raises(SpecError, match="refers to what is not in it"):
        said("format", "{}", schema='{"$ref": "http://127.0.0.1:9/schema.json"}')

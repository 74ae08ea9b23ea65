"""The gates that look at where an answer ends, and how long it is."""

import pytest
from gates_at_hand import EXTRACTIVE, said, verdict

from potstill.spec.sections import GatesSpec

CUT = [
    ("Here is the code:\n```python\ndef double(x):\n    return 2 * x", "open_block"),
    ("- first\n- second:\n  ```\n  ls", "open_block"),
    ("````\n```\nnested\n```", "open_block"),
    ('{"name": "Ada", "born": [1815', "open_bracket"),
    ('{"name": "Ada.", "note": "Mathematician.', "open_bracket"),
    ("The function is f(x", "open_bracket"),
    ("Bitte nehmen Sie die Linie 4 (Richtung Hauptbahnhof", "open_bracket"),
    ("他说（明天会来", "open_bracket"),
    ("彼は「明日来ます", "open_bracket"),
    ('She said "I will come', "open_quote"),
    ("She said “I will come", "open_quote"),
    ("Er sagte: „Ich komme", "open_quote"),
    ("Il a dit : « Je viendrai", "open_quote"),
]

WHOLE = """
She said "I will come".
She said “I will come”
Er sagte: „Ich komme“
Er sagte: »Ich komme«
Il a dit : « Je viendrai »
彼は「明日来ます」と言った
他说（明天会来）
a) first b) second c) third
1) first
The interval is [0, 1)
See you tomorrow :-(
Sorry to hear that :(
I <3 this
The board is 6" by 12"
She is 5'10" tall
It's the dogs' dinner
The syntax is `f(x`, with one bracket
Write '(' to open a group
Press "[" to go back
Escape it as \\( or \\[ in LaTeX
(This is an aside, and it ends here.
He shouted "Stop!
Done 🎉 (finally 🎉
""".strip().splitlines()

MANY_LINES = [
    "```python\nprint('(')\n```",
    "Use:\n\n```\nls (\n```\n\nThat is all",
    "~~~\n```\n~~~",
    "He wrote (as ever\n\nAnd then he slept",
    '"First paragraph of a quotation,\n\n"and the last."',
    'A stray " on the line before\nand an end without a stop',
]


@pytest.mark.parametrize(("text", "code"), CUT)
def test_an_answer_that_ends_inside_something_was_cut(text, code):
    found = verdict(text)
    assert (found.gate, found.keep, found.code) == ("truncation", False, code)


@pytest.mark.parametrize("text", [*WHOLE, *MANY_LINES])
def test_an_answer_that_closes_what_it_opened_or_ends_a_sentence_is_whole(text):
    assert said("truncation", text).keep


@pytest.mark.parametrize(("text", "code"), [case for case in CUT if case[1] != "open_block"])
def test_closing_it_makes_an_answer_whole(text, code):
    closing = {"open_bracket": {"「": "」", "（": "）", "[": "]}", "{": '"}'}, "open_quote": {"“": "”", "„": "“", "«": "»", '"': '"'}}[code]
    opened = next((mark for mark in closing if mark in text), "(")
    assert said("truncation", text + closing.get(opened, ")")).keep


def test_what_the_row_itself_says_is_whole_as_it_is():
    passage = "The council (the Thing met every year."
    assert said("truncation", "The council (the Thing", task=EXTRACTIVE, asked=passage).keep
    assert said("truncation", "f(x", reference=["f(x"]).keep


@pytest.mark.parametrize(("finish", "code"), [("length", "length"), ("content_filter", "content_filter")])
def test_the_endpoint_s_word_counts_first(finish, code):
    assert verdict("All is well.", finish=finish).code == code


@pytest.mark.parametrize(
    ("text", "code"), [("a", "short"), (" a ", "short"), ("ab", ""), ("abcd", ""), (" abcd\n", ""), ("abcde", "long"), ("äöüßé", "long")]
)
def test_length_counts_characters_and_both_limits_are_allowed(text, code):
    found = said("length", text, GatesSpec(min_characters=2, max_characters=4))
    assert (found.keep, found.code) == (not code, code)


def test_one_limit_alone_leaves_the_other_side_open():
    assert said("length", "a" * 9_999, GatesSpec(min_characters=2)).keep
    assert said("length", "a", GatesSpec(max_characters=4)).keep

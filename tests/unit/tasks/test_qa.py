"""Questions: spans, free text and letters."""

import pytest

from potstill.records import Example, Message
from potstill.spec.sections import TaskSpec
from potstill.tasks import Task, build_task
from potstill.tasks.choices import listed_options

PASSAGE = "The  “Eiffel Tower” was built in 1889 by Gustave Eiffel's company.\nIt stands in Paris, France. Who built it?"


def qa(answer: str) -> Task:
    return build_task(TaskSpec.model_validate({"type": "qa", "answer": answer}))


@pytest.mark.parametrize("kind", ["extractive", "open"])
@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("Paris", "Paris"),
        (" Paris\n", "Paris"),
        ('"Paris"', "Paris"),
        ("“Paris”", "Paris"),
        ("**Paris**", "Paris"),
        ("Answer: Paris", "Paris"),
        ("**Answer:** Paris", "Paris"),
        ("The answer is Paris", "Paris"),
        ('Final answer: "Paris"', "Paris"),
        ("'tis Paris", "'tis Paris"),
        ('"Yes" and "no"', '"Yes" and "no"'),
        ("Answering is hard", "Answering is hard"),
        ("Answer:", None),
        ('""', '""'),
    ],
)
def test_a_text_answer_is_what_stands_between_the_quotes(kind: str, reply: str, answer: str | None) -> None:
    assert qa(kind).parse(reply) == answer


@pytest.mark.parametrize(
    "reply",
    [
        "1889",
        "paris, france",
        "Gustave Eiffel's company",
        "Gustave Eiffel’s company",
        "Eiffel   Tower",
        "It stands in Paris, France.",
        "Paris.",
    ],
)
def test_a_span_of_the_passage_is_let_pass(reply: str) -> None:
    assert qa("extractive").verify(Example("x", (Message("user", PASSAGE),)), reply) is None


def test_an_answer_that_is_not_in_the_passage_is_refused_with_its_reason() -> None:
    reason = qa("extractive").verify(Example("x", (Message("user", PASSAGE),)), "Answer: London")
    assert reason == '"London" is not a span of the passage'


def test_a_long_answer_is_shortened_in_the_reason() -> None:
    reason = qa("extractive").verify(Example("x", (Message("user", PASSAGE),)), "London " * 50)
    assert reason is not None
    assert len(reason) < 100


def test_a_gold_answer_need_not_be_a_span() -> None:
    example = Example("x", (Message("user", PASSAGE),), ("unanswerable",))
    assert qa("extractive").verify(example, "Unanswerable.") is None


def test_the_answers_of_few_shot_examples_are_not_the_passage() -> None:
    shown = (Message("user", "Where?"), Message("assistant", "London"), Message("user", PASSAGE))
    assert qa("extractive").verify(Example("x", shown), "London") is not None


def test_an_empty_answer_is_left_to_the_format_gate() -> None:
    assert qa("extractive").verify(Example("x", (Message("user", PASSAGE),)), " ") is None


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B", "B"),
        ("b", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("**B**", "B"),
        ("B) Paris", "B"),
        ("b. Paris", "B"),
        ("(B) Paris", "B"),
        ("Answer: B", "B"),
        ("**Answer:** B", "B"),
        ("The answer is B, a city.", "B"),
        ("The correct answer is (b).", "B"),
        ("It must be option C.", "C"),
        ("A is wrong, so the answer is B", "B"),
        ("C is correct.", "C"),
        ("I would take (B) here", "B"),
        ("either (A) or (B)", None),
        ("Paris", None),
        ("The answer is a city", None),
        ("B\n\nBecause A is wrong.", "B"),
        ("The answer is A because it is the city.", "A"),
        ("The answer is B and not A.", "B"),
        ("Option A is wrong, so I take option C.", "C"),
        ("B is the right answer.", "B"),
        ("Answer: A or B", None),
        ("Answer: **A**, **B** and C", None),
        ("The answer is A/B", None),
        ("A is wrong, B is right", None),
        ("A) Paris: no\nB) Rome: yes", None),
        ("Choice A is wrong", None),
        ("It is not (A)", None),
        ("The answer is I don't know", None),
        ("Answer: I'm not sure", None),
        ("I do not know", None),
        ("A city in France", None),
    ],
)
def test_the_letter_of_a_choice_is_found_or_none_is_given(reply: str, letter: str | None) -> None:
    assert qa("choice").parse(reply) == letter


@pytest.mark.parametrize(
    ("prompt", "letters"),
    [
        ("Which?\nA. Paris\nB. Rome\nC. Oslo", "ABC"),
        ("Which?\n a) Paris\n b) Rome", "AB"),
        ("Which? (A) Paris (B) Rome (C) Oslo", "ABC"),
        ("Which? A) Paris B) Rome", "AB"),
        ("Which?\n[A] Paris\n[B] Rome", "AB"),
        ("Which?\nA: Paris\nB:", "AB"),
        ("Vitamin A. Hepatitis B. What are they?", ""),
        ("Which?\nA. Paris", ""),
        ("Which?\n1. Paris\n2. Rome", ""),
    ],
)
def test_the_options_are_read_off_the_prompt(prompt: str, letters: str) -> None:
    assert "".join(listed_options(prompt)) == letters


def test_a_letter_that_is_no_option_is_refused_where_the_prompt_lists_them() -> None:
    example = Example("x", (Message("user", "Which?\nA. Paris\nB. Rome"),))
    assert qa("choice").verify(example, "The answer is E") == "E is not among the options A, B"
    assert qa("choice").verify(example, "b") is None
    assert qa("choice").verify(Example("x", (Message("user", "Paris or Rome?"),)), "E") is None
    assert qa("choice").verify(example, "Berlin") is None


def test_a_gold_choice_is_reduced_to_its_letter() -> None:
    assert qa("choice").expand(Example("x", (Message("user", "?"),), ("B. Paris",)))[0].reference == ("B",)


def test_the_metrics_follow_the_kind_of_answer() -> None:
    assert qa("extractive").metrics == ("exact_match", "token_f1")
    assert qa("open").metrics == ("token_f1", "exact_match")
    assert qa("choice").metrics == ("accuracy",)

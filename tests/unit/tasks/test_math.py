"""Sums."""

import pytest

from potstill.records import Example, Message
from potstill.spec.sections import TaskSpec
from potstill.tasks import build_task

MATH = build_task(TaskSpec(type="math"))


def sum_with(*reference: str) -> Example:
    return Example("x", (Message("user", "How many?"),), reference)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("3 and 4 make 7.", "7"),
        ("<think>8?</think>\\boxed{7.0}", "7"),
        ("The answer is $1,200.", "1200"),
        ("None of it.", None),
    ],
)
def test_the_final_answer_of_a_reply(reply: str, answer: str | None) -> None:
    assert MATH.parse(reply) == answer


def test_a_gold_solution_is_reduced_to_its_final_answer() -> None:
    assert MATH.expand(sum_with("3 + 4 = 7\n#### 7"))[0].reference == ("7",)


@pytest.mark.parametrize("reply", ["The answer is 0.50", "\\boxed{\\frac{1}{2}}", "half of it, 1/2"])
def test_the_same_value_in_another_form_is_let_pass(reply: str) -> None:
    assert MATH.verify(sum_with("1/2"), reply) is None


def test_another_value_is_refused_with_both() -> None:
    assert MATH.verify(sum_with("so\n#### 1,000"), "It is 999.") == "the answer is 999, the reference 1000"


def test_any_reference_will_do() -> None:
    assert MATH.verify(sum_with("1", "2"), "2") is None
    assert MATH.verify(sum_with("1", "2"), "3") == "the answer is 3, the reference 1 or 2"


def test_nothing_is_provable_without_a_reference_or_an_answer() -> None:
    assert MATH.verify(sum_with(), "3") is None
    assert MATH.verify(sum_with("1"), "no idea") is None

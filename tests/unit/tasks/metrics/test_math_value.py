"""Where final answers stand, and when two are one value."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from math_verify import parse, verify

from potstill.tasks.metrics.math_judge import MathJudge
from potstill.tasks.metrics.math_value import final_answer, same_value

ANSWERS = [
    ("15", "15"),
    ("15.00", "15"),
    ("-3", "-3"),
    ("−3", "-3"),
    (".5", "0.5"),
    ("1e3", "1000"),
    ("1,234,567", "1234567"),
    ("$1,234.50", "1234.5"),
    ("15%", "15%"),
    ("2 1/2", "5/2"),
    ("-2 1/2", "-5/2"),
    ("x = 5", "5"),
    ("3*5 = 15", "15"),
    ("x^2+y^2=1", "x^2+y^2=1"),
    ("12 m", "12"),
    ("$\\sqrt{2}$", "\\sqrt{2}"),
    ("(1,2)", "(1,2)"),
    ("First 3, then 4.\n#### 7", "7"),
    ("#### 10 dollars", "10"),
    ("so \\boxed{\\frac{1}{2}}, as asked", "\\frac{1}{2}"),
    ("\\boxed{1}, no: \\boxed{2}", "2"),
    ("\\boxed{\\text{east}}", "\\text{east}"),
    ("The answer is 15.", "15"),
    ("The answer is $15.00.", "15"),
    ("The answer is -3 degrees", "-3"),
    ("The answer is 3 + 4 = 7.", "7"),
    ("The answer to 3+4 is 7.", "7"),
    ("The answer is 5. It is not 6.", "5"),
    ("The final answer is $x^2+1$.", "x^2+1"),
    ("Answer:\n\n**42**", "42"),
    ("**Answer:** 42", "42"),
    ("answer: y = 2x + 1", "2x + 1"),
    ("He has 3 apples and 4 pears, so 7 in all.", "7"),
    ("He pays $3.50 a day * 2 = $7", "7"),
    ("There are 40 - 33 = 7 apples left after 3 days.", "7"),
    ("With 2 * 3 = 6 of them, there are 9.\nSo 8 in all.", "8"),
    ("To express the answer as a share: 3 of 4. Half of it is 2", "2"),
    ("Final answer (in dollars): 5", "5"),
    ("\\boxed{x^2+2xy+y^2}", "x^2+2xy+y^2"),
    ("\\boxed{x + 2 y}", "x + 2 y"),
    ("\\boxed{2 xy}", "2 xy"),
    ("\\boxed{\\triangle ABC}", "\\triangle ABC"),
    ("\\boxed{x = 2 or x = 3}", "x = 2 or x = 3"),
    ("\\boxed{5 hours}", "5"),
    ("\\boxed{about 3x + 2 dollars}", "3x + 2"),
    ("\\boxed{Total cost = 3 * 4 = 12 dollars}", "12"),
    ("\\boxed{5 apples and 3 pears}", "\\text{5 apples and 3 pears}"),
    ("\\boxed{5个苹果}", "5"),
    ("The answer is 2xy because both are factors.", "2xy"),
    ("The answer is x=2 or x=3.", "x=2 or x=3"),
    ("#### 3pq + 1", "3pq + 1"),
    ("2πr", "2πr"),
    ("The answer is 5km.", "5"),
    ("The answer is 12 km/h.", "12"),
    ("The answer is $12/hour.", "12"),
    ("The answer is a bit tricky: 5", "5"),
    ("The answer is I don't know", None),
    ("I do not know.", None),
    ("Paris", None),
    ("", None),
]


@pytest.mark.parametrize(("text", "answer"), ANSWERS)
def test_final_answer_is_found_and_in_normal_form(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


@pytest.mark.parametrize("answer", sorted({answer for _, answer in ANSWERS if answer}))
def test_a_normal_form_is_its_own(answer: str) -> None:
    assert final_answer(answer) == answer


PIECES = [*"0123456789.,$%/-+=(){}^ \n\\x", "\\boxed{", "#### ", "answer is ", "apples", "1,000", "\\frac{1}{2}", "1 1/0", "٣"]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_any_text_has_an_answer_or_none(text: str) -> None:
    answer = final_answer(text)
    assert answer is None or answer == answer.strip() != ""


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("abcdxyz", min_size=1, max_size=3), min_size=1, max_size=3), st.integers(2, 9), st.data())
def test_what_stands_in_a_box_is_compared_as_math_verify_does(products: list[str], factor: int, data: st.DataObject) -> None:
    one = f"{factor}" + "+".join(products)
    other = data.draw(st.sampled_from([one, one[::-1], f"{factor}", f"{factor}{products[0]}", "+".join(products[::-1])]))
    expected = verify(*(parse(f"${text}$", parsing_timeout=None) for text in (one, other)), timeout_seconds=None)
    assert same_value(f"\\boxed{{{one}}}", f"so \\boxed{{{other}}}") is (one == other or expected)


@pytest.mark.parametrize("exponent", ["1e99", "1e999999999999"])
def test_an_enormous_exponent_is_not_written_out_beyond_reason(exponent: str) -> None:
    assert len(final_answer(exponent) or "") <= 100


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        ("15", "15.0", True),
        ("15", "16", False),
        ("1/2", "0.5", True),
        ("\\frac{1}{2}", "1/2", True),
        ("1/3", "0.333333", True),
        ("2 1/2", "5/2", True),
        ("x+1", "1+x", True),
        ("\\sqrt{8}", "2\\sqrt{2}", True),
        ("{1,2}", "{2,1}", True),
        ("15%", "0.15", True),
        ("-5", "5", False),
        ("#### 1,000", "The answer is $1000", True),
        ("\\boxed{x^2+2xy+y^2}", "The answer is 2", False),
        ("\\boxed{x^2+2xy+y^2}", "\\boxed{(x+y)^2}", True),
        ("\\boxed{2xy}", "\\boxed{2ab}", False),
        ("\\boxed{ab}", "\\boxed{ba}", True),
        ("\\boxed{x + 2 y}", "x + 2", False),
        ("12abc", "12xyz", False),
        ("pq+1", "1", False),
        ("\\boxed{\\frac{ab}{2}}", "2", False),
        ("x=2 or x=3", "x=5 or x=3", False),
        ("x=2 or x=3", "The answer is x = 3 or x = 2.", True),
        ("\\boxed{x=2 \\text{ or } x=3}", "\\boxed{x=3 or x=2}", True),
        ("\\boxed{5 apples and 3 pears}", "\\boxed{5}", False),
        ("\\boxed{5 hours}", "5", True),
        ("no solution", "\\boxed{No solution}", True),
        ("\\boxed{no solution}", "\\boxed{\\text{no solution}}", True),
        ("", "", False),
        ("1+(", "7", False),
    ],
)
def test_answers_are_compared_as_values(gold: str, answer: str, same: bool) -> None:
    assert same_value(gold, answer) is same


def test_values_are_compared_from_threads_too() -> None:
    assert threading.current_thread() is threading.main_thread()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda place: same_value(f"{place}/4", str(place / 4)), range(1, 13)))
    assert found == [True] * 12


def test_a_comparison_without_end_is_stopped_and_the_next_one_works() -> None:
    judge = MathJudge(timeout_s=1.0)
    try:
        assert judge.same("9^{9^{9^{9}}}", "7") is None
        assert judge.same("1/2", "0.5") is True
    finally:
        judge.close()


def test_a_closed_judge_starts_again_when_asked() -> None:
    judge = MathJudge()
    try:
        assert judge.same("1/2", "0.5") is True
        judge.close()
        assert judge.same("1/4", "0.25") is True
    finally:
        judge.close()

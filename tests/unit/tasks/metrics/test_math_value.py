"""Where final answers stand, and when two are one value."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    ("I do not know.", None),
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

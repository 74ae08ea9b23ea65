import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.report.units import bytes_text, change_text, count_text, dollars_text, duration_text, percent_text, score_text, speed_text


@pytest.mark.parametrize(
    ("count", "text"),
    [(134_515_008, "134.5 M"), (960, "960"), (999.96, "1.0 k"), (1_000, "1.0 k"), (671e9, "671.0 G"), (999_999, "1.0 M"), (0, "0")],
)
def test_counts_have_four_digits_and_a_unit(count, text):
    assert count_text(count) == text


@pytest.mark.parametrize(
    ("dollars", "text"),
    [(1234.5, "$1,234.50"), (1, "$1.00"), (0.999, "$1.00"), (0, "$0.00"), (0.5, "$0.50"), (0.01234, "$0.0123"), (2.5e-6, "$0.0000025")],
)
def test_dollars_have_cents_and_small_sums_three_digits(dollars, text):
    assert dollars_text(dollars) == text


@pytest.mark.parametrize(
    ("size", "text"), [(538_060_032, "538 MB"), (1_234_000_000, "1.2 GB"), (960, "960 B"), (98_362_432, "98.4 MB"), (999_900, "1.0 MB")]
)
def test_bytes_are_decimal(size, text):
    assert bytes_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2.349, "2.35 s"),
        (0.0123, "12.3 ms"),
        (0.25, "250 ms"),
        (12.34, "12.3 s"),
        (250, "4 min 10 s"),
        (3661, "1 h 1 min"),
        (0.9999, "1.00 s"),
    ],
)
def test_durations_carry_their_unit(seconds, text):
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.84, "84 %"),
        (-0.61, "−61 %"),
        (1.0, "100 %"),
        (0.0, "0 %"),
        (0.999, "99.9 %"),
        (-0.9996, "−99.96 %"),
        (0.004, "0.4 %"),
        (1.032, "103 %"),
    ],
)
def test_what_is_nearly_all_or_nothing_is_not_rounded_to_it(share, text):
    assert percent_text(share) == text


@pytest.mark.parametrize(
    ("new", "old", "text"), [(39, 100, "−61 %"), (108, 100, "+8 %"), (5, 5, "no change"), (5, 0, "–"), (100_001, 100_000, "+0.001 %")]
)
def test_changes_carry_their_sign(new, old, text):
    assert change_text(new, old) == text


@pytest.mark.parametrize(
    ("new", "old", "text"),
    [
        (26.6, 14.0, "1.90× faster"),
        (14.9, 10, "1.49× faster"),
        (10, 13, "1.30× slower"),
        (19.96, 10, "2.0× faster"),
        (24.9, 10, "2.5× faster"),
        (10.04, 10, "no change"),
        (10, 10, "no change"),
        (0, 10, "–"),
        (200, 10, "20× faster"),
    ],
)
def test_rates_are_compared_by_factors(new, old, text):
    assert speed_text(new, old) == text


def test_scores_have_three_decimals_up_to_one_and_one_decimal_on_scales_of_a_hundred():
    assert [score_text(value) for value in (0.2314, 1.0, 34.26, -0.05)] == ["0.231", "1.000", "34.3", "−0.050"]


@given(st.floats(-5, 5))
def test_no_text_shows_a_negative_zero(value):
    for text in (percent_text(value), score_text(value)):
        assert not text.startswith("-")
        assert not (text.startswith("−") and not any(digit in text for digit in "123456789"))

"""Rows that come one by one are kept or dropped as a comparison of every pair would."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from rows_at_hand import sentences

from potstill.data.earlier import EarlierRows
from potstill.data.grams import hash_words
from potstill.data.near import RECALL

CLEARLY = 0.9
"""Two rows as alike as that are missed by the hashes once in sixty million times; those just above the threshold up to five in a thousand."""


def shingles(text: str) -> set[tuple[int, ...]]:
    words = hash_words(text).tolist()
    return {tuple(words[place : place + 3]) for place in range(max(1, len(words) - 2))}


def similarity(one: str, other: str) -> float:
    left, right = shingles(one), shingles(other)
    return len(left & right) / len(left | right)


def family(seed: int) -> list[tuple[str, str]]:
    """Rows of which many are changed copies of others, in question, in answer or in both."""
    draw = random.Random(seed)
    found: list[tuple[str, str]] = []
    for question, answer in zip(sentences(8, seed=seed, words=30), sentences(8, seed=seed + 1, words=15), strict=True):
        for _ in range(4):
            parts = [text.split() for text in (question, answer)]
            for words in parts:
                for place in draw.sample(range(len(words)), draw.randrange(3)):
                    words[place] = "other"
            found.append((" ".join(parts[0]), " ".join(parts[1])))
    draw.shuffle(found)
    return found


def offer_all(rows: list[tuple[str, str]]) -> list[tuple[float, bool]]:
    """Of each row, how alike the most alike kept row before it is, and whether it was called a twin (then its similarity is right)."""
    earlier, kept, found = EarlierRows(0.8), list[tuple[str, str]](), list[tuple[float, bool]]()
    for number, (question, answer) in enumerate(rows):
        alike = [min(similarity(question, other), similarity(answer, said)) for other, said in kept]
        twin = earlier.offer(str(number), question, answer)
        if twin is None:
            kept.append((question, answer))
        else:
            assert any(abs(twin.similarity - value) < 1e-9 for value in alike)
        found.append((max(alike, default=0.0), twin is not None))
    assert len(earlier) == len(kept)
    return found


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_only_rows_that_are_alike_in_question_and_answer_are_twins_and_those_that_clearly_are_always(seed: int) -> None:
    for alike, is_twin in offer_all(family(seed)):
        assert alike >= 0.8 or not is_twin
        assert alike < CLEARLY or is_twin


def test_of_rows_that_are_just_alike_enough_hardly_any_are_missed() -> None:
    found = [is_twin for seed in range(150) for alike, is_twin in offer_all(family(seed)) if 0.8 <= alike < CLEARLY]
    assert len(found) > 200
    assert sum(found) >= RECALL * len(found)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_the_order_of_later_rows_does_not_change_what_becomes_of_the_first(seed: int, draw: random.Random) -> None:
    first, *others = family(seed)
    clear = {row for row in others if min(similarity(row[0], first[0]), similarity(row[1], first[1])) >= CLEARLY}
    for _ in range(2):
        earlier = EarlierRows(0.8)
        assert earlier.offer("first", *first) is None
        assert clear <= {row for row in others if earlier.offer("later", *row) is not None}
        draw.shuffle(others)


def test_case_blanks_and_punctuation_hide_nothing_and_only_the_same_text_is_exact() -> None:
    earlier = EarlierRows(0.8)
    assert earlier.offer("a", "Where is my card?", "On its way.") is None
    same = earlier.offer("b", "where  is\nmy CARD?", "on its way.")
    assert same is not None
    assert (same.name, same.exact, same.similarity) == ("a", True, 1.0)
    near = earlier.offer("c", "Where is my card", "On its way!")
    assert near is not None
    assert (near.exact, near.similarity) == (False, 1.0)


def test_another_short_answer_makes_another_row() -> None:
    earlier = EarlierRows(0.8)
    question = sentences(1)[0]
    assert all(earlier.offer(label, question, label) is None for label in ("yes", "no", "not at all", "not sure"))


def test_a_template_makes_no_twins_of_short_questions() -> None:
    template = f"{sentences(1, seed=9, words=60)[0]}: {{}}"
    questions = [template.format(text) for text in sentences(200, words=4)]
    plain, aware = EarlierRows(0.8), EarlierRows(0.8, questions)
    assert sum(plain.offer("x", question, "yes") is None for question in questions) < 10
    assert sum(aware.offer("x", question, "yes") is None for question in questions) == 200
    assert aware.offer("x", questions[7], "yes") is not None


def test_questions_that_are_all_template_are_compared_as_they_are() -> None:
    questions = ["Toss a red coin", "Toss a blue coin"] * 50
    earlier = EarlierRows(0.8, questions)
    assert sum(earlier.offer("x", question, "heads") is None for question in questions) == 2


def test_a_twin_is_found_among_thousands_however_long_ago_it_came() -> None:
    earlier = EarlierRows(0.8)
    texts = sentences(4_500, words=8)
    for number, text in enumerate(texts):
        earlier.offer(str(number), text, "yes")
    for number in (0, 2_047, 2_048, 4_095, 4_096, 4_499):
        twin = earlier.offer("again", texts[number], "yes")
        assert twin is not None
        assert twin.exact


def test_empty_texts_are_twins_of_each_other_alone() -> None:
    earlier = EarlierRows(0.8)
    assert earlier.offer("a", "", "") is None
    assert earlier.offer("b", "", "") is not None
    assert earlier.offer("c", "", "yes") is None
    assert earlier.offer("d", "Why?", "") is None

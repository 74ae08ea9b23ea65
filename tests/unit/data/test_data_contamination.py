"""Rows that give a held-out row away are known by its hashes alone; rows that merely look like it are not."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows_at_hand import WORDS, sentences

from potstill.data.contamination import HeldOut
from potstill.data.grams import GRAM_WORDS, edit_distance, hash_grams, hash_words
from potstill.data.held_out import KEPT_RUNS, index_held_out
from potstill.errors import StoreError
from potstill.records import Example, Message

TEMPLATE = "Read the customer's message with care, and say in one word what it is about, without any explanation:\n{}\nThe word is:"


def row(text: str, reference: Sequence[str] = (), number: int = 0) -> Example:
    return Example(f"r-{number}", (Message("user", text),), tuple(reference))


def rows(texts: Sequence[str]) -> list[Example]:
    return [row(text, number=number) for number, text in enumerate(texts)]


def reordered(text: str, draw: random.Random) -> str:
    words = text.split()
    cut = draw.randrange(5, len(words) - 5)
    return " ".join(words[cut:] + words[:cut])


def reworded(text: str, draw: random.Random, words: int = 3) -> str:
    found = text.split()
    for place in draw.sample(range(len(found)), words):
        found[place] = draw.choice(["other", "thing", "maybe"])
    return " ".join(found)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_every_held_out_row_is_found_verbatim_reordered_reworded_and_wrapped(seed: int, in_template: bool) -> None:
    texts = sentences(60, seed=seed, words=24)
    around = TEMPLATE if in_template else "{}"
    held_out = index_held_out(rows([around.format(text) for text in texts[40:]]), [], rows([around.format(text) for text in texts[:20]]))
    draw = random.Random(seed)
    for number, text in enumerate(texts[:20], start=1):
        for other in (text, text.upper(), text.replace(" ", "\n"), reordered(text, draw), reworded(text, draw)):
            match = held_out.find(around.format(other))
            assert match is not None
            assert (match.split, match.row) == ("test", number)
        wrapped = held_out.find(f"Somebody wrote to us the other day, and I quote: {text} What do you say to that?")
        assert wrapped is not None
        assert (wrapped.kind, wrapped.row) == ("runs", number)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 30))
def test_unrelated_rows_of_one_template_are_kept(seed: int, count: int) -> None:
    texts = [TEMPLATE.format(text) for text in sentences(3 * count, seed=seed, words=12)]
    train, validation, test = (rows(texts[part::3]) for part in range(3))
    held_out = index_held_out(train, validation, test)
    assert [held_out.find(example.messages[0].content, "yes") for example in train] == [None] * len(train)


def test_a_passage_with_many_questions_gives_none_of_them_away() -> None:
    passage, *questions = sentences(9, words=20)
    passages = " ".join([passage, *sentences(5, seed=1, words=20)])
    train, test = (rows([f"{passages} {question}" for question in questions[part::2]]) for part in range(2))
    held_out = index_held_out(train, [], test)
    assert not any(held_out.find(example.messages[0].content) for example in train)
    match = held_out.find(f"{passages} {questions[3]}")
    assert match is not None
    assert match.row == 2


def test_a_row_that_was_learnt_twice_is_found_all_the_same() -> None:
    text = sentences(1, words=30)[0]
    held_out = index_held_out(rows([f"One: {text}", f"Two: {text}"]), [], rows([text, *sentences(5, seed=1)]))
    assert held_out.find(f"One: {text}") is not None


def test_the_same_sum_with_other_numbers_is_another_sum() -> None:
    text = "Hana has {} stamps in her red album and gives {} of them to her brother; how many stamps does the album hold after that, Hana wonders?"
    held_out = index_held_out([], [], rows([text.format(31, 12)]))
    assert held_out.find(reworded(text.format(31, 12), random.Random(1), words=1)) is not None
    assert held_out.find(text.format(45, 17)) is None
    assert held_out.find("Compute the following and give the result alone: 31 + 12") is None


def test_signs_of_arithmetic_make_a_difference_and_punctuation_does_not() -> None:
    assert hash_words("3 + 4").tolist() != hash_words("3 * 4").tolist()
    assert hash_words("3 - 4").tolist() != hash_words("3 4").tolist()
    assert hash_words("Well-known, isn't it?").tolist() == hash_words("well known isn t it").tolist()
    assert [word % 2 for word in hash_words("three 3 x2 + straße 今日").tolist()] == [0, 1, 1, 1, 0, 0, 0]


def test_short_questions_count_as_a_whole_and_labels_never() -> None:
    held_out = index_held_out([], [], [row("Cancel my transfer", ["cancel transfer"]), row("age limit")])
    assert held_out.find("cancel my TRANSFER!", "age limit") is not None
    assert held_out.find("Please cancel my transfer today") is None
    assert held_out.find("How old must I be?", "age limit") is None
    assert held_out.find("How do I stop it?", "cancel transfer") is None


def test_a_long_reference_in_an_answer_is_found_and_a_stock_phrase_is_not() -> None:
    reference, stock = sentences(2, words=25)
    held_out = index_held_out([], [], [row("What then?", [reference]), row("And now?", [stock]), row("And later?", [stock])])
    match = held_out.find("Tell me more", f"Gladly. {reference}")
    assert match is not None
    assert match.row == 1
    assert held_out.find("Tell me more", f"Gladly. {stock}") is None


def test_validation_rows_may_be_left_aside() -> None:
    one, other = sentences(2, words=20)
    held_out = index_held_out([], rows([one]), rows([other]))
    found = held_out.find(one)
    assert found is not None
    assert (found.split, found.row) == ("validation", 1)
    assert held_out.find(one, only_test=True) is None
    assert held_out.find(other, only_test=True) is not None


@pytest.mark.parametrize("text", ["", "?!", " \n ", "今"])
def test_rows_without_words_are_no_trouble(text: str) -> None:
    held_out = index_held_out(rows([text]), rows([text, "x"]), rows([text]))
    assert held_out.find(text, text) is None or text == "今"
    assert index_held_out([], [], []).find(text) is None


def test_hashes_survive_the_disk_and_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    texts = sentences(30, words=20)
    for name in "ab":
        index_held_out(rows(texts[:10]), rows(texts[10:20]), rows(texts[20:])).save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    loaded = HeldOut.load(tmp_path / "a")
    for number, text in enumerate(texts[20:], start=1):
        match = loaded.find(text)
        assert match is not None
        assert (match.split, match.row) == ("test", number)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no archive"])
def test_a_damaged_file_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(StoreError, match=r"x\.npz"):
        HeldOut.load(tmp_path / "x.npz")


def test_no_words_of_the_rows_stand_in_the_file(tmp_path: Path) -> None:
    texts = sentences(20, words=20)
    index_held_out([], [], rows(texts)).save(tmp_path / "x.npz")
    content = (tmp_path / "x.npz").read_bytes()
    assert not any(word.encode() in content for word in WORDS if len(word) > 2 and any(word in text for text in texts[:3]))


def test_a_long_row_costs_no_more_than_a_bounded_number_of_runs() -> None:
    held_out = index_held_out([], [], rows([" ".join(sentences(400, words=20))]))
    assert len(held_out.grams) == KEPT_RUNS
    assert held_out.find(" ".join(sentences(400, words=20))) is not None


@given(st.lists(st.integers(0, 3), max_size=12), st.lists(st.integers(0, 3), max_size=12))
def test_edit_distance_is_levenshtein_s(one: list[int], other: list[int]) -> None:
    table = list(range(len(other) + 1))
    for place, word in enumerate(one, start=1):
        above, table = table, [place]
        for column, another in enumerate(other, start=1):
            table.append(min(above[column] + 1, table[-1] + 1, above[column - 1] + (word != another)))
    assert edit_distance(one, other) == table[-1]


@given(st.lists(st.sampled_from(["one", "two", "three"]), min_size=1, max_size=20))
def test_runs_are_equal_where_their_words_are(words: list[str]) -> None:
    grams = hash_grams(hash_words(" ".join(words))).tolist()
    runs = [tuple(words[place : place + GRAM_WORDS]) for place in range(max(1, len(words) - GRAM_WORDS + 1))]
    assert len(grams) == len(runs)
    assert len(set(grams)) == len(set(runs))

"""Exact and near duplicates between splits are those that a comparison of every pair finds."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows_at_hand import chat, sentences, write_jsonl

from potstill.data.duplicates import Duplicates, Part, find_duplicates
from potstill.data.intake import take_in
from potstill.data.near import VERIFIED, NearIndex, band_rows, template_shingles
from potstill.data.text import jaccard, normalise, prompt_text, shingles
from potstill.records import Example, Message
from potstill.spec import ColumnsSpec


def part(folder: Path, split: str, rows: list[object]) -> Part:
    path = write_jsonl(folder / f"{split}.jsonl", rows)
    intake = take_in(path, split=split, columns=ColumnsSpec(), conversation=False)
    assert not intake.problems.count
    return Part(split, intake, np.arange(len(intake.rows)))


def compare(folder: Path, train: list[object], test: list[object], validation: list[object] | None = None) -> Duplicates:
    aside = validation or [chat("Nothing like any other question that stands here")]
    return find_duplicates(part(folder, "train", train), part(folder, "validation", aside), part(folder, "test", test), threshold=0.8)


def changed(text: str, words: int, draw: random.Random) -> str:
    found = text.split()
    for position in draw.sample(range(len(found)), words):
        found[position] = "other"
    return " ".join(found)


@given(st.lists(st.sampled_from(["Alpha", "BETA", "gamma", "Straße", "ﬁn", "4"]), min_size=1), st.data())
def test_case_and_blanks_do_not_hide_a_duplicate(words: list[str], data: st.DataObject) -> None:
    one = " ".join(words)
    blanks = data.draw(st.lists(st.sampled_from([" ", "\n", "\t ", "\u00a0"]), min_size=len(words), max_size=len(words)))
    other = "".join(word.upper() + blank for word, blank in zip(words, blanks, strict=True))
    assert normalise(one) == normalise(other)
    assert shingles(one) == shingles(other)


def test_exact_duplicates_are_found_in_another_case_and_layout(tmp_path: Path) -> None:
    found = compare(tmp_path, [chat("Where is\tmy CARD?"), chat("Something else")], [chat("where is my card?")])
    train_test = found.pairs[1]
    assert train_test.exact.tolist() == [True, False]
    assert train_test.near.tolist() == [False, False]
    example = train_test.examples[0]
    assert (example["id"], example["other_id"], example["similarity"]) == ("train-1", "test-1", 1.0)
    assert example["place"].endswith("train.jsonl:1")


def test_system_prompts_are_not_compared(tmp_path: Path) -> None:
    system = {"role": "system", "content": "A long system prompt that all rows share and that says nothing of the question itself"}
    rows = [{"messages": [system, {"role": "user", "content": text}]} for text in sentences(2)]
    assert not compare(tmp_path, rows[:1], rows[1:]).pairs[1].either.any()


def test_the_answer_is_not_compared(tmp_path: Path) -> None:
    found = compare(tmp_path, [chat("Where is my card?", reference="here")], [chat("Where is my card?", reference="there")])
    assert found.pairs[1].exact.all()


def test_signs_make_a_difference() -> None:
    assert jaccard(shingles("Compute 3 + 4 now"), shingles("Compute 3 * 4 now")) < 0.8
    assert normalise("Compute 5²") != normalise("Compute 52")


def test_scripts_without_blanks_have_words_too() -> None:
    assert jaccard(shingles("今日の天気はどうですか、東京の場合"), shingles("今日の天気はどうですか、東京の場合は")) > 0.8


def test_near_duplicates_are_those_of_a_comparison_of_every_pair(tmp_path: Path) -> None:
    draw = random.Random(1)
    test = sentences(150, seed=2, words=40)
    train = sentences(150, seed=3, words=40) + [changed(text, words, draw) for text in test for words in (1, 2, 3)]
    found = compare(tmp_path, [chat(text) for text in train], [chat(text) for text in test])
    expected = [max(jaccard(shingles(one), shingles(other)) for other in test) >= 0.8 for one in train]
    assert 0.1 < sum(expected) / len(expected) < 0.9, "the case must have both kinds"
    assert found.pairs[1].near.tolist() == expected
    assert found.unverified == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("abcd ", min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=12), st.floats(0.3, 1.0))
def test_similarities_found_are_exact(texts: list[str], threshold: float) -> None:
    rows = [shingles(text) for text in texts]
    index = NearIndex(threshold, rows.__getitem__)
    index.add(rows)
    for row, similar in zip(rows, index.search(rows), strict=True):
        for key, similarity in similar:
            assert similarity == jaccard(row, rows[key]) >= threshold
        assert {key for key, other in enumerate(rows) if other == row} <= {key for key, _ in similar}


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.9, 1.0])
def test_pairs_at_the_threshold_are_proposed(threshold: float) -> None:
    draw = random.Random(0)
    size, hits, pairs = 200, 0, 300
    shared = -int(-threshold * 2 * size // (1 + threshold))
    for _ in range(pairs):
        words = [f"{draw.random()}" for _ in range(2 * size - shared)]
        one, other = frozenset(words[:size]), frozenset(words[size - shared :])
        index = NearIndex(threshold, [one].__getitem__)
        index.add([one])
        hits += len(next(index.search([other])))
    assert hits / pairs >= 0.98


def test_bands_grow_with_the_threshold() -> None:
    sizes = [band_rows(threshold) for threshold in (0.1, 0.3, 0.5, 0.8, 0.9, 1.0)]
    assert sizes == sorted(sizes)
    assert band_rows(0.8) == 8


def test_rows_without_shingles_are_like_no_other() -> None:
    rows = [frozenset[str](), frozenset[str](), frozenset(("a b c",))]
    index = NearIndex(0.8, rows.__getitem__)
    index.add(rows)
    assert list(index.search(rows)) == [[], [], [(2, 1.0)]]


def test_a_template_around_different_questions_makes_no_duplicates(tmp_path: Path) -> None:
    intents = " ".join(sentences(1, seed=9, words=150))
    rows = [chat(f"Choose one of these intents: {intents} . The customer says: {text}") for text in sentences(60, seed=5, words=8)]
    found = compare(tmp_path, rows[:40], rows[40:])
    assert found.template_shingles > 100
    assert not found.pairs[1].either.any()
    assert compare(tmp_path, [*rows[:40], rows[50]], rows[40:]).pairs[1].exact.sum() == 1


def test_few_rows_have_no_template() -> None:
    assert template_shingles([shingles("one two three four")] * 10) == frozenset()
    assert template_shingles([shingles("one two three four")] * 11) == {"one two three", "two three four"}


def test_rows_that_resemble_too_many_are_counted() -> None:
    rows = [frozenset((*map(str, range(100)), f"own {number}")) for number in range(VERIFIED + 10)]
    index = NearIndex(0.8, rows.__getitem__)
    index.add(rows)
    assert len(next(index.search(rows[:1]))) == VERIFIED
    assert index.unverified == 1


def test_validation_is_compared_with_test_and_train(tmp_path: Path) -> None:
    texts = sentences(6)
    found = compare(tmp_path, [chat(texts[0]), chat(texts[1])], [chat(texts[2]), chat(texts[3])], [chat(texts[1]), chat(texts[2])])
    assert {(pair.split, pair.other): pair.either.tolist() for pair in found.pairs} == {
        ("validation", "test"): [False, True],
        ("train", "test"): [False, False],
        ("train", "validation"): [False, True],
    }


def test_a_conversation_is_compared_as_a_whole() -> None:
    turns = [Message("user" if number % 2 == 0 else "assistant", f"Turn {number}") for number in range(3)]
    assert prompt_text(Example("x", tuple(turns))) == "Turn 0\nTurn 1\nTurn 2"
    assert all(one != other for one, other in itertools.combinations(map(normalise, ("a b", "b a", "ab")), 2))

"""Paraphrases are found as a plain computation of all cosines finds them, and as constructed pairs say."""

import math
import random
from collections import Counter
from pathlib import Path

import pytest
import yaml
from rows_at_hand import sentences

from potstill.data.near import template_shingles
from potstill.data.paraphrase import LIKENESS, RUN, ParaphraseIndex
from potstill.data.text import shingles, words_of

ROOT = Path(__file__).parents[3]
PAIRS = yaml.safe_load((ROOT / "benchmarks" / "paraphrases.yaml").read_text())
ENGLISH = [sentence for page in sorted(ROOT.glob("docs/*.md")) for sentence in page.read_text().split(". ")]
"""Tells which words are common."""


def found(kind: str) -> int:
    """How many of the constructed texts of a kind are taken for paraphrases of the question that they were made of."""
    index = ParaphraseIndex([pair["text"] for pair in PAIRS], ENGLISH)
    matches = [index.search(pair[kind]) for pair in PAIRS]
    assert all(match is None or match[0] == number for number, match in enumerate(matches)), "one of another question"
    return sum(match is not None for match in matches)


# What docs/method.md says of it.
@pytest.mark.parametrize(
    ("kind", "least", "most"), [("light", 24, 24), ("order", 24, 24), ("reworded", 14, 24), ("free", 0, 0), ("other", 0, 2)]
)
def test_constructed_pairs_are_told_apart_as_documented(kind: str, least: int, most: int) -> None:
    assert len(PAIRS) == 24
    assert least <= found(kind) <= most


def runs(text: str) -> Counter[str]:
    words = [f" {word} " for word in words_of(text)]
    return Counter(word[start : start + RUN] for word in words for start in range(max(1, len(word) - RUN + 1)))


def cosine(one: str, other: str, known: list[str]) -> float:
    """The definition, word by word: TF-IDF with sublinear frequencies over all texts."""
    rows: Counter[str] = Counter()
    for text in known:
        rows.update(set(runs(text)))

    def vector(text: str) -> dict[str, float]:
        return {run: (1 + math.log(n)) * math.log((2 + len(known)) / (1 + rows[run])) for run, n in runs(text).items()}

    a, b = vector(one), vector(other)
    return sum(a[run] * b.get(run, 0.0) for run in a) / math.sqrt(sum(x * x for x in a.values()) * sum(x * x for x in b.values()))


def test_what_is_found_is_what_a_comparison_of_every_pair_finds() -> None:
    draw = random.Random(0)
    held = sentences(40, seed=1, words=12)
    learnt = sentences(20, seed=2, words=12)
    for text in held[:30]:
        words = text.split()
        for place in draw.sample(range(len(words)), draw.randint(1, 6)):
            words[place] = draw.choice(learnt[0].split())
        draw.shuffle(words)
        learnt.append(" ".join(words))
    index = ParaphraseIndex(held, learnt)
    hits = 0
    for text in learnt:
        likest = max(cosine(text, other, held + learnt) for other in held)
        match = index.search(text)
        if abs(likest - LIKENESS) > 0.01:  # some runs share a place
            assert (match is not None) == (likest > LIKENESS)
        if match is not None:
            hits += 1
            assert match[1] == pytest.approx(likest, abs=0.01)
            assert cosine(text, held[match[0]], held + learnt) == pytest.approx(likest, abs=0.01)
    assert 10 <= hits <= 30, "too easy, or too hard"


def test_other_numbers_are_another_question() -> None:
    text = "A baker sells {} rolls before noon and {} rolls after noon, how many rolls is that?"
    index = ParaphraseIndex([text.format(12, 30)])
    assert index.search(f"Tell me: {text.format(30, 12)}") is not None
    assert index.search(text.format(12, 31)) is None


def test_an_inflected_word_is_like_its_stem() -> None:
    index = ParaphraseIndex(["cancel the transferred payments of the customers"], sentences(50))
    assert index.search("the customer cancelled the transfer of the payment") is not None


def test_scripts_without_blanks_are_compared() -> None:
    index = ParaphraseIndex(["今日の午後に銀行で口座を開くことはできますか"], ["明日は雨が降るでしょう"])
    assert index.search("銀行で口座を今日の午後に開くことはできますか") is not None
    assert index.search("明日の朝に駅で切符を買うことはできますか") is None


def test_a_template_around_different_questions_does_not_make_them_alike() -> None:
    frame = " ".join(sentences(20, seed=9)) + " Question: {}"
    questions = [frame.format(text) for text in sentences(60, words=9)]
    texts = [*questions, *sentences(200, seed=8)]
    template = template_shingles([shingles(text) for text in texts])
    assert template
    with_template, without = ParaphraseIndex(questions[:30], texts, template), ParaphraseIndex(questions[:30], texts)
    assert all(without.search(text) for text in questions[30:])
    assert [with_template.search(text) for text in questions[30:]] == [None] * 30
    assert with_template.search(questions[0].replace("Question", "So")) is not None


@pytest.mark.parametrize("text", ["", "yes", "yes it is", "?!", "1 2 3"])
def test_texts_of_a_few_words_are_paraphrases_of_nothing(text: str) -> None:
    assert ParaphraseIndex([text, "something else altogether, and longer"]).search(text) is None
    assert ParaphraseIndex([]).search("something else altogether, and longer") is None

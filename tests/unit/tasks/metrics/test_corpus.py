"""Corpus metrics: BLEU and chrF against sacrebleu, macro-F1 against its definition."""

import random
from collections import defaultdict
from fractions import Fraction

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.tasks.metrics import Prediction, build_metric, score
from potstill.tasks.metrics.base import Metric

TEXT = "the a cat dog sat ran on over mat fence quickly , . ! big small Ünïcode 猫 it's 3.5"
WORDS = TEXT.split()
LABELS = ("a", "b", "c", "never")


def random_corpus(seed: int, rows: int = 20, ranks: int = 3) -> list[Prediction]:
    generator = random.Random(seed)

    def sentence() -> str:
        return " ".join(generator.choices(WORDS, k=generator.randint(1, 12)))

    corpus = []
    for _ in range(rows):
        references = [sentence() for _ in range(generator.randint(1, ranks))]
        answer = generator.choice([references[0], sentence(), sentence() + " " + references[-1], "", None])
        corpus.append(Prediction(answer, tuple(references)))
    return corpus


def streams(corpus: list[Prediction]) -> list[list[str | None]]:
    """References as sacrebleu takes them: one stream a rank, padded with None."""
    ranks = max(len(row.references) for row in corpus)
    return [[row.references[rank] if rank < len(row.references) else None for row in corpus] for rank in range(ranks)]


def oracle(name: str, corpus: list[Prediction]) -> float:
    metric = {"bleu": sacrebleu.BLEU, "chrf": sacrebleu.CHRF}[name]()
    padded = streams(corpus)
    return metric.corpus_score([row.answer or "" for row in corpus], padded).score


@pytest.mark.parametrize("name", ["bleu", "chrf"])
@pytest.mark.parametrize("seed", range(25))
def test_sums_of_row_statistics_give_sacrebleus_corpus_score(name: str, seed: int) -> None:
    corpus = random_corpus(seed, rows=1 + seed % 7 * 5, ranks=1 + seed % 3)
    assert score(build_metric(name), corpus) == pytest.approx(oracle(name, corpus), abs=1e-6)


@pytest.mark.parametrize("name", ["bleu", "chrf"])
@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.text("ab .,猫", max_size=25), st.lists(st.text("ab .,猫", max_size=25), min_size=1, max_size=2)),
        min_size=1,
        max_size=4,
    )
)
def test_short_and_odd_texts_score_as_in_sacrebleu(name: str, rows: list[tuple[str, list[str]]]) -> None:
    corpus = [Prediction(answer, tuple(references)) for answer, references in rows]
    assert score(build_metric(name), corpus) == pytest.approx(oracle(name, corpus), abs=1e-6)


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_a_resampled_corpus_scores_as_if_its_rows_were_repeated(name: str) -> None:
    metric, corpus = build_metric(name), random_corpus(99)
    weights = np.random.default_rng(0).multinomial(len(corpus), [1 / len(corpus)] * len(corpus), size=8)
    found = metric.value(weights @ metric.statistics(corpus))
    expected = [oracle(name, [row for row, times in zip(corpus, draw, strict=True) for _ in range(times)]) for draw in weights]
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_the_public_functions_of_sacrebleu_agree_too(name: str) -> None:
    corpus = random_corpus(7, ranks=1)
    function = {"bleu": sacrebleu.corpus_bleu, "chrf": sacrebleu.corpus_chrf}[name]
    expected = function([row.answer or "" for row in corpus], [[row.references[0] for row in corpus]]).score
    assert score(build_metric(name), corpus) == pytest.approx(expected, abs=1e-6)


def brute_force_macro_f1(rows: list[tuple[str | None, list[str]]]) -> float:
    """Label by label, over sets of row numbers; what is outside the labels is one label, `None`."""

    def known(label: str) -> str | None:
        return label if label in LABELS else None

    wanted, answered = defaultdict(set), defaultdict(set)
    for number, (answer, references) in enumerate(rows):
        right = answer in references
        wanted[known(answer if right else references[0])].add(number)
        if right or answer in LABELS:
            answered[known(answer)].add(number)
    scores = []
    for label in wanted.keys() | answered.keys():
        hits = len({number for number in wanted[label] & answered[label] if rows[number][0] in rows[number][1]})
        precision = Fraction(hits, len(answered[label]) or 1)
        recall = Fraction(hits, len(wanted[label]) or 1)
        scores.append(2 * precision * recall / (precision + recall) if hits else Fraction(0))
    return float(sum(scores) / len(scores))


def macro_f1() -> Metric:
    return build_metric("macro_f1", LABELS)


references = st.lists(st.sampled_from([*LABELS, "unseen", "unheard of"]), min_size=1, max_size=2)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([None, "unseen", "prose", *LABELS]), references), min_size=1, max_size=30))
def test_macro_f1_follows_its_definition(rows: list[tuple[str | None, list[str]]]) -> None:
    predictions = [Prediction(answer, tuple(wanted)) for answer, wanted in rows]
    assert score(macro_f1(), predictions) == pytest.approx(brute_force_macro_f1(rows))


def test_a_label_that_nobody_wanted_or_answered_does_not_lower_macro_f1() -> None:
    assert score(macro_f1(), [Prediction("a", ("a",)), Prediction("b", ("b",))]) == 1.0


def test_a_label_that_was_answered_but_never_wanted_does() -> None:
    # F1 of a: 2/3, of c: 0
    assert score(macro_f1(), [Prediction("a", ("a",)), Prediction("c", ("a",))]) == pytest.approx(1 / 3)


def test_an_unparsable_answer_is_a_miss_of_its_own_label_alone() -> None:
    # F1 of a: 2/3, of b: 1
    predictions = [Prediction("a", ("a",)), Prediction(None, ("a",)), Prediction("b", ("b",))]
    assert score(macro_f1(), predictions) == pytest.approx((2 / 3 + 1) / 2)


def test_any_of_several_references_is_right() -> None:
    assert score(macro_f1(), [Prediction("b", ("a", "b"))]) == 1.0


def test_references_outside_the_label_set_are_missed_and_count_as_one_label_more() -> None:
    # F1 of a: 4/5 (answered thrice, right twice), of the labels outside: 0
    rows = [Prediction("a", ("a",)), Prediction("a", ("a",)), Prediction("a", ("x",)), Prediction(None, ("y",))]
    assert score(macro_f1(), rows) == pytest.approx((4 / 5 + 0) / 2)
    assert score(build_metric("accuracy", LABELS), rows) == 0.5

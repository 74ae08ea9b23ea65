"""Metrics that are means over rows, against the libraries and definitions that they follow."""

import re
import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from potstill.errors import DataError, SpecError
from potstill.tasks.metrics import ALIASES, METRICS, Prediction, build_metric, row_scores, score, score_all

LABELS = ("yes", "no")
PAIRS = [
    ("The cat sat on the mat.", "A cat was sitting on the mat!"),
    ("running dogs were jumping", "the dog runs and jumps"),
    ("snake_case and 3.14 figures", "snake case, and 3 figures"),
    ("", "something else"),
    ("nothing in common", "entirely different words"),
    ("Line one.\nLine two.", "Line two. Line one."),
]
words = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


def predict(answer: str | None, *references: str) -> Prediction:
    return Prediction(answer, references)


@pytest.mark.parametrize(("name", "kind"), [("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")])
@settings(max_examples=60, deadline=None)
@given(answer=words, reference=words)
def test_rouge_of_ascii_text_equals_rouge_score_with_its_stemmer(name: str, kind: str, answer: str, reference: str) -> None:
    expected = RougeScorer([kind], use_stemmer=True).score(reference, answer)[kind].fmeasure
    assert score(build_metric(name), [predict(answer, reference)]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("name", "kind"), [("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")])
def test_rouge_is_the_mean_of_the_best_over_references(name: str, kind: str) -> None:
    scorer = RougeScorer([kind], use_stemmer=True)
    references = [(wanted, "the dog jumped over the mat") for _, wanted in PAIRS]
    expected = np.mean([scorer.score_multi(both, answer)[kind].fmeasure for (answer, _), both in zip(PAIRS, references, strict=True)])
    predictions = [Prediction(answer, both) for (answer, _), both in zip(PAIRS, references, strict=True)]
    assert score(build_metric(name), predictions) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("text", ["Кошка сидит на ковре", "猫が座っている", "Le café est fermé à côté"])
def test_rouge_knows_letters_beyond_ascii(text: str) -> None:
    assert score(build_metric("rouge_l"), [predict(text, text)]) == 1.0


@pytest.mark.parametrize(("one", "other"), [("कि", "की"), ("का", "की"), ("نَعَم", "نِعم")])
def test_rouge_takes_words_with_other_marks_for_other_words(one: str, other: str) -> None:
    assert score(build_metric("rouge_1"), [predict(one, other)]) == 0.0


@pytest.mark.parametrize(("one", "other"), [("é", "e\u0301"), ("İstanbul", "istanbul"), ("ÉTÉ", "été")])
def test_rouge_takes_one_word_written_in_two_ways_for_one(one: str, other: str) -> None:
    assert score(build_metric("rouge_1"), [predict(one, other)]) == 1.0


def test_rouge_takes_each_ideograph_as_a_word() -> None:
    assert score(build_metric("rouge_1"), [predict("猫狗", "猫鸟")]) == pytest.approx(0.5)


def squad_normalise(text: str) -> str:
    text = "".join(letter for letter in text.lower() if letter not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_f1(gold: str, answer: str) -> float:
    wanted, found = squad_normalise(gold).split(), squad_normalise(answer).split()
    same = sum((Counter(wanted) & Counter(found)).values())
    if not wanted or not found:
        return float(wanted == found)
    if same == 0:
        return 0.0
    precision, recall = same / len(found), same / len(wanted)
    return 2 * precision * recall / (precision + recall)


@settings(max_examples=100, deadline=None)
@given(answer=words, references=st.lists(words, min_size=1, max_size=3))
def test_exact_match_and_token_f1_follow_squads_definition(answer: str, references: list[str]) -> None:
    predictions = [predict(answer, *references)]
    assert score(build_metric("token_f1"), predictions) == pytest.approx(max(squad_f1(gold, answer) for gold in references))
    expected = float(any(squad_normalise(gold) == squad_normalise(answer) for gold in references))
    assert score(build_metric("exact_match"), predictions) == expected


def test_token_f1_of_a_worked_example() -> None:
    # found: eiffel tower paris; wanted: eiffel tower: precision 2/3, recall 1
    assert score(build_metric("token_f1"), [predict("the Eiffel Tower, Paris", "Eiffel Tower")]) == pytest.approx(0.8)


def test_accuracy_overlooks_case_and_spacing_alone() -> None:
    predictions = [predict("Yes", "yes"), predict(" no ", "no"), predict("yes.", "yes"), predict(None, "yes")]
    assert row_scores(build_metric("accuracy"), predictions).tolist() == [1.0, 1.0, 0.0, 0.0]


def test_math_accuracy_compares_values() -> None:
    predictions = [predict("0.5", "\\frac{1}{2}"), predict("1000", "so 500 twice\n#### 1,000"), predict("7", "8"), predict(None, "8")]
    assert row_scores(build_metric("math_accuracy"), predictions).tolist() == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("name", sorted(METRICS))
def test_no_predictions_are_an_error_and_not_zero(name: str) -> None:
    with pytest.raises(DataError, match=f"{name}.*no predictions"):
        score(build_metric(name, LABELS), [])


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_prediction_without_reference_names_the_metric_that_needs_it(name: str) -> None:
    with pytest.raises(DataError, match=f"{name} compares with a reference, but prediction 2 of 2 has none"):
        score(build_metric(name, LABELS), [predict("yes", "yes"), predict("yes")])


def sample(name: str) -> list[Prediction]:
    if name in {"macro_f1", "accuracy"}:
        rows = [("yes", "yes"), ("no", "yes"), (None, "no"), ("no", "no"), ("yes", "no"), ("yes", "yes")]
    elif name == "math_accuracy":
        rows = [("1", "1"), ("2", "3"), (None, "4"), ("5", "5"), ("6", "6"), ("0.5", "1/2")]
    else:
        rows = [*PAIRS, (None, "no such reply")]
    return [predict(answer, reference) for answer, reference in rows]


@pytest.mark.parametrize("name", sorted(METRICS))
def test_statistics_of_two_halves_add_up_to_the_whole(name: str) -> None:
    metric, predictions = build_metric(name, LABELS), sample(name)
    halves = metric.statistics(predictions[:3]).sum(axis=0) + metric.statistics(predictions[3:]).sum(axis=0)
    assert metric.value(halves) == pytest.approx(score(metric, predictions), abs=1e-12)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_the_order_of_rows_does_not_matter(name: str) -> None:
    metric, predictions = build_metric(name, LABELS), sample(name)
    assert score(metric, predictions[::-1]) == pytest.approx(score(metric, predictions), abs=1e-12)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_perfect_prediction_scores_the_maximum_and_an_unparsable_one_nothing(name: str) -> None:
    metric = build_metric(name, LABELS)
    perfect = [predict(prediction.references[0], *prediction.references) for prediction in sample(name)]
    maximum = {"share": 1.0, "points": 100.0}[metric.unit]
    assert score(metric, perfect) == pytest.approx(maximum)
    unparsable = [Prediction(None, prediction.references) for prediction in perfect]
    assert score(metric, unparsable) == 0.0


@pytest.mark.parametrize("name", sorted(METRICS))
def test_an_unparsable_row_lowers_the_score_of_the_others(name: str) -> None:
    metric = build_metric(name, LABELS)
    texts = ("one two three four five", "six seven eight nine ten")
    gold = {"math_accuracy": ("1", "2"), "macro_f1": LABELS}.get(name, texts)
    good = [predict(text, text) for text in gold]
    assert score(metric, [*good, predict(None, gold[0])]) < score(metric, good)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_values_of_stacked_sums_equal_the_values_of_each(name: str) -> None:
    metric = build_metric(name, LABELS)
    rows = metric.statistics(sample(name))
    stacked = np.stack([rows[:4].sum(axis=0), rows[2:].sum(axis=0), rows.sum(axis=0), rows[:2].sum(axis=0)]).reshape(2, 2, -1)
    expected = [[float(metric.value(total)) for total in pair] for pair in stacked]
    assert metric.value(stacked) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_metric_is_known_by_its_own_name_and_goes_upwards(name: str) -> None:
    metric = build_metric(name, LABELS)
    assert metric.name == name
    assert metric.title
    assert metric.higher_is_better


def test_row_scores_are_those_whose_mean_the_metric_is() -> None:
    metric = build_metric("rouge_l")
    predictions = sample("rouge_l")
    assert row_scores(metric, predictions).mean() == pytest.approx(score(metric, predictions))
    assert row_scores(build_metric("bleu"), predictions) is None


def test_score_all_gives_each_metric_under_its_name() -> None:
    predictions = sample("bleu")
    found = score_all([build_metric("bleu"), build_metric("rouge_1")], predictions)
    assert found == {"bleu": score(build_metric("bleu"), predictions), "rouge_1": score(build_metric("rouge_1"), predictions)}


@pytest.mark.parametrize(("alias", "name"), [*ALIASES.items(), ("ROUGE-L", "rouge_l"), ("Exact match", "exact_match"), ("BLEU", "bleu")])
def test_other_names_lead_to_the_same_metric(alias: str, name: str) -> None:
    assert build_metric(alias).name == name


def test_f1_means_macro_f1_where_there_are_labels() -> None:
    assert build_metric("f1", LABELS).name == "macro_f1"


def test_an_unknown_metric_is_refused_with_a_near_match_and_all_names() -> None:
    with pytest.raises(SpecError) as caught:
        build_metric("rogue_l")
    assert "did you mean rouge_l?" in str(caught.value)
    assert all(name in str(caught.value) for name in METRICS)


def test_a_name_that_is_near_nothing_is_refused_without_a_guess() -> None:
    with pytest.raises(SpecError, match="there is no metric"):
        build_metric("zzzzz")


def test_macro_f1_without_labels_is_refused() -> None:
    with pytest.raises(SpecError, match="needs a label set"):
        build_metric("macro_f1")

"""The same figures as scikit-learn and lm-eval give, where they have the metric too."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from potstill.tasks.metrics import Prediction, build_metric, score

LABELS = ("a", "b", "c", "never")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(LABELS[:3]), st.sampled_from(LABELS[:3])), min_size=1, max_size=12))
def test_macro_f1_of_answers_that_are_labels_is_scikit_learns(rows: list[tuple[str, str]]) -> None:
    answers, gold = zip(*rows, strict=True)
    expected = f1_score(gold, answers, labels=LABELS, average="macro", zero_division=math.nan)
    found = score(build_metric("macro_f1", LABELS), [Prediction(answer, (label,)) for answer, label in rows])
    assert found == pytest.approx(expected, abs=1e-6)


sentences = st.lists(
    st.sampled_from(["the", "a", "cat", "sat", "on", "mat", ",", ".", "quickly", "Ünïcode", "猫"]), min_size=1, max_size=9
).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(sentences, sentences), min_size=1, max_size=6))
@pytest.mark.parametrize("name", ["bleu", "chrf"])
def test_scores_of_texts_are_lm_evals(name: str, rows: list[tuple[str, str]]) -> None:
    theirs = pytest.importorskip("lm_eval.api.metrics")
    found = score(build_metric(name), [Prediction(answer, (gold,)) for answer, gold in rows])
    assert found == pytest.approx(getattr(theirs, name)([(gold, answer) for answer, gold in rows]), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["yes", "Yes", "no", "maybe so"]), st.sampled_from(["yes", "no", "Maybe so"])), min_size=1))
def test_accuracy_is_lm_evals_exact_match_with_letter_case_aside(rows: list[tuple[str, str]]) -> None:
    theirs = pytest.importorskip("lm_eval.api.metrics")
    answers, gold = zip(*rows, strict=True)
    expected = theirs.exact_match_hf_evaluate(predictions=list(answers), references=list(gold), ignore_case=True)["exact_match"]
    assert score(build_metric("accuracy"), [Prediction(answer, (label,)) for answer, label in rows]) == pytest.approx(expected, abs=1e-6)

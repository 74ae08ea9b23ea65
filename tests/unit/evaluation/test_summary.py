"""What is said of a closed label set, from the replies alone."""

import json

import numpy as np
import pytest

from potstill.evaluation.predict import Question, Reply
from potstill.evaluation.resampling import Bootstrap
from potstill.evaluation.score import sample_agreement, sample_references
from potstill.evaluation.slices import find_traits
from potstill.evaluation.summary import Answers, row_scores, summarise
from potstill.records import Completion, Message
from potstill.tasks.metrics import build_metric

LABELS = ("cat", "dog", "fish")
SHARES = {"teacher": 0.9, "baseline": 0.3, "student": 0.8, "tfidf": 0.6}


def answers(metrics=("accuracy", "macro_f1"), failing=()):
    """Sixty questions; the student states its confidence; a call of the baseline fails on the questions `failing`."""
    generator = np.random.default_rng(1)
    questions = [Question(str(i), None, (Message("user", "x" * (5 + i)),), (LABELS[i % 3],), ("web",) if i % 2 else ()) for i in range(60)]
    replies = {}
    for system, share in SHARES.items():
        said = [one.references[0] if generator.random() < share else LABELS[generator.integers(3)] for one in questions]
        sure = [(("cat", 0.2), ("dog", 0.7), ("fish", 0.1))] * 60 if system == "student" else [()] * 60
        replies[system] = [
            Reply(Completion("", "error"), None, failed=True)
            if system == "baseline" and place in failing
            else Reply(Completion(answer, "stop"), answer, probabilities=shares)
            for place, (answer, shares) in enumerate(zip(said, sure, strict=True))
        ]
    built = [build_metric(name, LABELS) for name in metrics]
    gold, agreed = sample_references(built, questions, replies), sample_agreement(build_metric("accuracy"), questions, replies)
    return Answers(questions, find_traits(questions, LABELS), replies, gold, agreed, LABELS)


def summary(given):
    return json.loads(json.dumps(summarise(given, Bootstrap(resamples=300)), allow_nan=False))


@pytest.fixture(scope="module")
def found():
    return summary(answers())


def test_every_system_is_compared_tested_and_counted(found):
    assert list(found["systems"]) == list(SHARES)
    assert set(found["comparisons"]) == {"accuracy", "macro_f1"}
    assert set(found["comparisons"]["accuracy"]["student"]) == {"retention", "gain", "gap_recovered", "over_tfidf"}
    assert {test["method"] for test in found["tests"]["accuracy"]["student"].values()} == {"mcnemar"}
    assert {test["method"] for test in found["tests"]["macro_f1"]["student"].values()} == {"permutation"}
    assert set(found["tests"]["accuracy"]["student"]) == {"teacher", "baseline", "tfidf"}


def test_the_matrix_agrees_with_the_score(found):
    matrix = found["confusion"]["student"]
    right = sum(row[place] for place, row in enumerate(matrix["counts"]))
    assert right / 60 == pytest.approx(found["systems"]["student"]["scores"]["accuracy"]["value"])


def test_slices_by_label_are_the_rows_of_the_matrix(found):
    matrix = found["confusion"]["student"]
    by_label = {one["name"]: one["systems"]["student"]["value"] for one in found["slices"] if one["by"] == "label"}
    assert by_label == {label: pytest.approx(matrix["counts"][place][place] / 20) for place, label in enumerate(LABELS)}
    assert found["macro"]["label"]["student"]["value"] == pytest.approx(np.mean(list(by_label.values())))


def test_slices_of_a_label_set_are_of_accuracy_where_macro_f1_leads(found):
    led = summary(answers(metrics=("macro_f1",)))
    assert led["primary"] == "macro_f1"
    assert [one["systems"]["student"]["value"] for one in led["slices"]] == [one["systems"]["student"]["value"] for one in found["slices"]]


def test_systems_with_probabilities_are_calibrated(found):
    assert set(found["calibration"]) == {"student"}
    assert found["calibration"]["student"]["ece"]["n"] == 60


def test_a_failed_call_leaves_the_question_out_for_everybody_and_has_no_score():
    given = answers(failing={7, 8})
    found = summary(given)
    assert (found["questions"], found["scored"]) == (60, 58)
    assert {test["n"] for test in found["tests"]["accuracy"]["student"].values()} == {58}
    scores = list(row_scores(given, "student"))
    assert [place for place, one in enumerate(scores) if not one] == [7, 8]
    assert set(scores[0]) == {"accuracy"}


def test_agreement_is_drawn_with_the_scores_or_alone_and_is_the_same():
    """The draws are the same for the same rows, so that sharing them changes nothing."""
    given = answers()
    apart = Answers(given.questions, given.traits, given.replies, None, given.agreed, ())
    together = summary(given)["agreement"]["scores"]["student"]
    alone = summary(apart)["agreement"]["scores"]["student"]
    assert together["value"] == alone["value"]
    assert together["interval"]["low"] == pytest.approx(alone["interval"]["low"], abs=0.04)

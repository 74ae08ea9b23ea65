"""Parts of the rows: each is what scoring those rows alone would give, and macro figures count each part once."""

import numpy as np
import pytest

from potstill.evaluation.compare import compare_systems, score_systems
from potstill.evaluation.intervals import cluster_rows
from potstill.evaluation.predict import Question
from potstill.evaluation.resampling import Bootstrap, conduct
from potstill.evaluation.slices import find_traits, in_slices
from potstill.records import Message
from potstill.tasks.metrics import build_metric
from potstill.tasks.metrics.base import Prediction

SETTINGS = Bootstrap(resamples=400)
LABELS = ("cat", "dog", "fish")


def question(number, label, length, tags=()):
    messages = (Message("system", "s" * 999), Message("user", "x" * length))
    return Question(str(number), None, messages, (label,), tags)


def asked(n=90):
    return [question(i, LABELS[i % 3], 10 + i, ("web",) if i % 2 else ("shop", "phone")) for i in range(n)]


def right_on(questions, share, seed):
    generator = np.random.default_rng(seed)
    return [Prediction(one.references[0] if generator.random() < share else None, one.references) for one in questions]


def sliced(questions, groups=None, **given):
    [scored] = score_systems([build_metric("accuracy")], given)
    clusters = cluster_rows(groups or [None] * len(questions))
    return conduct([in_slices(scored, find_traits(questions, LABELS), clusters, SETTINGS)], clusters, SETTINGS)[0]


def test_lengths_are_thirds_of_what_is_asked_without_the_system_prompt():
    traits = find_traits(asked(), LABELS)
    assert [one.length for one in traits] == ["short"] * 30 + ["medium"] * 30 + ["long"] * 30
    assert {one.length for one in find_traits([question(i, "cat", 7) for i in range(9)])} == {"short"}


def test_labels_are_traits_where_the_set_is_closed():
    assert find_traits(asked(3), LABELS)[1].to_json() == {"label": "dog", "tag": ["web"], "length": "medium"}
    assert find_traits(asked(3))[1].to_json() == {"tag": ["web"], "length": "medium"}


def test_slices_are_named_and_hold_their_rows():
    found = sliced(asked(), student=right_on(asked(), 0.8, 1)).slices
    assert [(one.by, one.name, one.to_json()["n"]) for one in found] == [
        *(("label", label, 30) for label in LABELS),
        ("tag", "phone", 45),
        ("tag", "shop", 45),
        ("tag", "web", 45),
        *(("length", length, 30) for length in ("short", "medium", "long")),
    ]


@pytest.mark.parametrize("grouped", [False, True])
def test_a_slice_is_what_its_rows_alone_would_give(grouped):
    questions = asked(360)
    groups = [f"g{i // 3}" if grouped else None for i in range(360)]
    given = {"teacher": right_on(questions, 0.9, 1), "student": right_on(questions, 0.7, 2)}
    found = next(one for one in sliced(questions, groups, **given).slices if one.name == "web")
    inside = [i for i, one in enumerate(questions) if "web" in one.tags]
    alone = compare_systems(
        [build_metric("accuracy")],
        {system: [rows[i] for i in inside] for system, rows in given.items()},
        [groups[i] for i in inside],
        Bootstrap(resamples=4_000),
    )
    retention = alone.estimates["accuracy"]["student"]["retention"]
    assert found.scores["student"].value == alone.scores["student"]["accuracy"].value
    assert found.retention.value == retention.value
    assert (found.retention.interval.low, found.retention.interval.high) == pytest.approx(
        (retention.interval.low, retention.interval.high), abs=0.02
    )


def test_macro_counts_a_rare_label_as_much_as_a_common_one():
    questions = [question(i, "cat" if i < 80 else "dog", 10) for i in range(100)]
    given = [Prediction("cat", one.references) for one in questions]
    found = sliced(questions, student=given).macro
    assert set(found) == {"label"}
    score = found["label"]["student"]
    assert (score.value, score.n) == (0.5, 100)
    assert score.interval.low == score.interval.high == 0.5


def test_a_slice_of_fewer_than_ten_rows_has_a_score_and_no_interval():
    questions = [question(i, "cat", 10, ("rare",) if i < 9 else ()) for i in range(60)]
    found = sliced(questions, student=right_on(questions, 0.5, 3)).slices
    assert [(one.name, one.scores["student"].n, one.scores["student"].interval) for one in found] == [("rare", 9, None)]


def test_where_nothing_tells_rows_apart_there_are_no_slices():
    questions = [question(i, "cat", 10) for i in range(20)]
    found = sliced(questions, student=right_on(questions, 0.5, 4))
    assert (found.slices, found.macro) == ([], {})

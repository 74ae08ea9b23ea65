"""Whether distillation helped is said as its interval has it, and not said where there is none."""

from typing import Any

import pytest

from potstill.report.distillation import told


def scores(difference: float, low: float | None, high: float = 0.0, *, higher: bool = True) -> dict[str, Any]:
    interval = None if low is None else {"low": low, "high": high, "confidence": 0.95, "resamples": 1_000}
    found = {"student": 0.5 + difference, "sft": 0.5}
    return {
        "primary": "m",
        "metrics": {"m": {"title": "M", "higher_is_better": higher}},
        "systems": {system: {"scores": {"m": {"value": value, "n": 40, "interval": None}}} for system, value in found.items()},
        "comparisons": {"m": {"student": {"over_sft": {"value": difference, "interval": interval, "undefined": 0.0}}}},
        "agreement": None,
    }


@pytest.mark.parametrize(
    ("found", "finding", "said"),
    [
        (scores(0.1, 0.02, 0.2), "better", "Yes: M 0.600, and 0.500 with plain fine-tuning on the same rows: +0.100 [+0.020, +0.200]."),
        (scores(-0.1, -0.2, -0.02), "worse", "No, it did harm: M 0.400, and 0.500 with"),
        (scores(-0.1, -0.2, -0.02, higher=False), "better", "Yes: "),
        (scores(0.1, -0.01, 0.2), "inconclusive", "Not shown by 40 test questions: M 0.600"),
        (scores(0.0, 0.0, 0.0), "inconclusive", "Not shown by 40 test questions: M 0.500"),
        (scores(0.1, None), "inconclusive", "40 test questions are too few for an interval."),
    ],
)
def test_the_sentence_says_what_the_interval_does(found: dict[str, Any], finding: str, said: str) -> None:
    distillation = told(found)
    assert distillation["finding"] == finding
    assert said in distillation["sentence"]


def test_a_student_without_another_beside_it_is_not_compared() -> None:
    found = scores(0.0, None)
    del found["systems"]["sft"], found["comparisons"]["m"]["student"]["over_sft"]
    assert told(found)["finding"] == "not compared"
    assert "learnt by plain fine-tuning itself" in told(found)["sentence"]


def test_without_references_agreement_with_the_teacher_is_compared() -> None:
    found = scores(0.1, 0.02, 0.2)
    difference = found["comparisons"]["m"]["student"]["over_sft"]
    agreed = {system: one["scores"]["m"] for system, one in found["systems"].items()}
    found |= {"primary": None, "comparisons": {}, "agreement": {"title": "M", "scores": agreed, "over_sft": difference}}
    assert told(found)["metric"] == "agreement with the teacher (M)"
    assert told(found)["finding"] == "better"

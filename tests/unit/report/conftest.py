"""A report's content as the stages write it, with round figures."""

import pytest


def interval(low, high):
    return {"low": low, "high": high, "confidence": 0.95, "resamples": 10_000}


def score(value, low, high):
    return {"value": value, "n": 60, "interval": interval(low, high)}


def estimate(value, bounds=None):
    return {"value": value, "interval": bounds, "undefined": 0.0}


def counts(unparsable=0):
    return {"unparsable": unparsable, "no_room": 0, "failed": 0, "truncated": 0}


def timing(p50, rate, **more):
    times = {
        "p50_s": p50,
        "p95_s": 2 * p50,
        "first_token_s": {"p50": p50 / 4, "p95": p50 / 2},
        "tokens_per_answer": 20.0,
        "tokens_per_s": rate,
    }
    return {"where": "in a process of its own", **times, "n": 12, "threads": 2, **more}


def size(parameters):
    sizes = {"parameters": parameters, "weights_bytes": 4 * parameters, "disk_bytes": 4 * parameters + 3_000_000}
    return {**sizes, "storage": "float32", "shipped_bytes": None}


@pytest.fixture
def content():
    """What report.json holds."""
    return {
        "schema_version": 1,
        "potstill": "0.1.0",
        "name": "docstrings",
        "seed": 7,
        "evaluation": {
            "rows": 60,
            "questions": 60,
            "scored": 60,
            "groups": 60,
            "seed": 7,
            "settings": {"unit": "row", "fewest_units": 10, "few_units": 30, "resamples": 10_000, "confidence": 0.95},
            "primary": "rouge_l",
            "metrics": {"rouge_l": {"title": "ROUGE-L", "higher_is_better": True}},
            "systems": {
                "teacher": {**counts(), "scores": {"rouge_l": score(0.2, 0.18, 0.22)}},
                "baseline": {**counts(unparsable=3), "scores": {"rouge_l": score(0.001, 0.0, 0.003)}},
                "student": {**counts(), "scores": {"rouge_l": score(0.168, 0.15, 0.19)}},
            },
            "comparisons": {
                "rouge_l": {
                    "student": {
                        "retention": estimate(0.84, interval(0.78, 0.91)),
                        "gain": estimate(0.167, interval(0.15, 0.18)),
                        "gap_recovered": estimate(0.839),
                    }
                }
            },
            "agreement": {
                "metric": "rouge_l",
                "title": "ROUGE-L",
                "scores": {"baseline": score(0.01, 0, 0.02), "student": score(0.41, 0.38, 0.44)},
            },
            "sizes": {"teacher": size(134_515_008), "baseline": size(60_000_000), "student": size(60_000_000)},
        },
        "data": {"rows": {"train": 900, "validation": 60, "test": 60}},
        "generation": {
            "rows": {"train": {"asked": 900, "accepted": 850}, "validation": {"asked": 0, "accepted": 0}},
            "dropped": {"refusal": 10, "truncation": 40},
            "calls": 900,
            "input_tokens": 100_000,
            "output_tokens": 20_000,
            "dollars": 0.0,
        },
        "training": {"steps": 100},
        "spec": {
            "name": "docstrings",
            "task": {"type": "summarization"},
            "teacher": {"model": "HuggingFaceTB/SmolLM2-135M-Instruct"},
            "student": {"model": None, "carve": {"layers": 16, "vocabulary": "data"}},
        },
        "models": {
            "teacher": {"hub_id": "HuggingFaceTB/SmolLM2-135M-Instruct", "licence": "Apache-2.0", "distillation": "allowed"},
            "student": {"hub_id": "HuggingFaceTB/SmolLM2-135M-Instruct", "licence": "Apache-2.0", "distillation": "allowed"},
        },
        "versions": {"potstill": "0.1.0", "torch": "2.13.0"},
        "machine": {"processor": "A CPU", "cores": 2, "memory_bytes": 8_000_000_000, "system": "Linux x86_64", "python": "3.11.9"},
        "timings": {
            "systems": {"teacher": timing(2.5, 14.0), "baseline": timing(1.3, 27.0), "student": timing(1.0, 26.6)},
            "stages": {"generate": 80.0, "train": 250.0},
        },
    }


def leaks(learnt, exact=0, near=0, paraphrase=0, left_out=0):
    """As the leak report has it, without examples."""
    compared = {"learnt": learnt, "test": 60, "for_paraphrases": [learnt - exact - near, 60]}
    counts = {"exact": exact, "near": near, "paraphrase": paraphrase}
    return {"compared": compared, **counts, "left_out": {"exact": left_out, "near": 0, "paraphrase": 0}, "examples": []}


@pytest.fixture
def trust():
    """What report.json holds of seal and leaks, where a run tells of them."""
    openings = [{"purpose": "evaluation", "artefact": weights, "at": "2026-01-01T00:00:00+00:00"} for weights in ("aa", "bb")]
    return {
        "seal": {"opened": 2, "of_other_rows": 0, "openings": openings},
        "leaks": {"train_test": leaks(900, exact=1, near=2, paraphrase=30, left_out=5), "answers_references": leaks(850, paraphrase=4)},
    }

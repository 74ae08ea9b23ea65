"""A report with every part that one can have, made up: intents of a bank's customers, five systems, each optional part filled.

Figures are round or drawn from a seeded generator; they are made to be shown, and stand for nothing that was measured.
"""

from __future__ import annotations

import math
import random
from typing import Any

LABELS = ("card lost", "card stolen", "exchange rate", "top-up failed", "transfer pending", "wrong amount")
SYSTEMS = ("teacher", "baseline", "student", "sft", "tfidf")
_RIGHT = {"teacher": 0.92, "baseline": 0.18, "student": 0.88, "sft": 0.83, "tfidf": 0.74}
_SECONDS = {"teacher": 0.9, "baseline": 0.045, "student": 0.042, "sft": 0.043, "tfidf": 0.0011}
_BYTES = {"teacher": 5.2e9, "baseline": 2.4e8, "student": 2.4e8, "sft": 2.4e8, "tfidf": 1.1e7}
_ASKED = {
    "card lost": "I cannot find my card anywhere, what now?",
    "card stolen": "Somebody took my card on the train.",
    "exchange rate": "Which rate did you use for my dollars?",
    "top-up failed": "My top-up did not go through.",
    "transfer pending": "The transfer still says pending.",
    "wrong amount": "The cash machine gave me the wrong amount.",
}


def interval(low: float, high: float) -> dict[str, Any]:
    return {"low": low, "high": high, "confidence": 0.95, "resamples": 10_000}


def score(value: float, n: int, half: float = 0.03) -> dict[str, Any]:
    return {"value": value, "n": n, "interval": interval(max(0.0, value - half), min(1.0, value + half))}


def estimate(value: float, half: float = 0.03) -> dict[str, Any]:
    return {"value": value, "interval": interval(value - half, value + half), "undefined": 0.0}


def questions(count: int = 300) -> list[dict[str, Any]]:
    """Rows as `gather.question_rows` returns them, in the proportions of `_RIGHT`."""
    draw = random.Random(7)
    return [_question(index, draw) for index in range(count)]


def _question(index: int, draw: random.Random) -> dict[str, Any]:
    label = LABELS[index % len(LABELS)]
    replies = {}
    for system in SYSTEMS:
        right = draw.random() < _RIGHT[system]
        answer = label if right else draw.choice([other for other in LABELS if other != label] + [None])
        text = answer or "I am not sure what you mean."
        replies[system] = {"text": text, "answer": answer, "finish_reason": "stop", "scores": {"accuracy": float(right)}}
        if system == "student":
            replies[system]["probabilities"] = {text: 0.9, "other": 0.1}
    return {
        "id": f"row-{index}",
        "messages": [{"role": "system", "content": "Name the intent."}, {"role": "user", "content": f"{_ASKED[label]} (case {index})"}],
        "references": [label],
        "slices": {"label": label, "tag": ["app" if index % 3 else "phone"], "length": ("short", "medium", "long")[index % 3]},
        "judged": {"outcome": ("student", "teacher", "tie", "abstain")[index % 4], "reason": "it names the intent"},
        "replies": replies,
    }


def full_report(rows: int = 300) -> dict[str, Any]:
    """What `report.json` holds when nothing is missing."""
    return {
        "schema_version": 1,
        "potstill": "0.1.0",
        "name": "bank-intents",
        "seed": 7,
        "evaluation": _evaluation(rows),
        "data": {"rows": {"train": 9_000, "validation": 300, "test": rows}, "notices": ["12 rows hold the same prompt"]},
        "generation": {
            "rows": {"train": {"asked": 9_000, "accepted": 8_412}, "validation": {"asked": 0, "accepted": 0}},
            "dropped": {"format": 311, "refusal": 140, "truncation": 97, "contamination": 40},
            "calls": 9_000,
            "input_tokens": 1_800_000,
            "output_tokens": 90_000,
            "dollars": 6.4,
            "failed": 3,
        },
        "training": {"steps": 1_200, "best_step": 1_000},
        "distillation": {
            "metric": "Accuracy",
            "difference": estimate(0.05),
            "finding": "better",
            "sentence": "Did distillation help? Yes.",
        },
        "spec": {
            "name": "bank-intents",
            "task": {"type": "nli"},
            "teacher": {"model": "HuggingFaceTB/SmolLM2-1.7B-Instruct"},
            "student": {"model": None, "carve": {"layers": 12, "vocabulary": "data"}},
        },
        "models": {
            "teacher": {"hub_id": None, "licence": "Apache-2.0", "distillation": "allowed"},
            "student": {"hub_id": None, "licence": "Apache-2.0", "distillation": "allowed"},
        },
        "versions": {"potstill": "0.1.0", "torch": "2.13.0"},
        "machine": {"processor": "A CPU", "cores": 2, "memory_bytes": 8_000_000_000, "system": "Linux x86_64", "python": "3.11.9"},
        "timings": {"systems": {system: _timing(system) for system in SYSTEMS}, "stages": {"generate": 80.0, "train": 250.0}},
        "cost": {
            "currency": "USD",
            "per_1000_requests": {
                "teacher": {"dollars": 0.71, "how": "price table"},
                "student": {"dollars": 0.012, "how": "price per hour"},
                "tfidf": {"dollars": None, "how": "unknown"},
            },
            "distillation": {"teacher_calls": 6.4, "judge_calls": 0.8, "machine": 0.35, "total": 7.55},
            "saving_per_1000": 0.698,
            "break_even_requests": 10_817,
            "break_even_days": 5.4,
            "requests_per_day": 2_000.0,
        },
        "seal": {
            "opened": 2,
            "of_other_rows": 0,
            "openings": [
                {"purpose": "evaluation", "artefact": "training/best", "at": "2026-11-24T12:00:00Z"},
                {"purpose": "export parity", "artefact": "export/gguf", "at": "2026-11-24T12:30:00Z"},
            ],
        },
        "leaks": {
            "train_test": {
                "compared": {"learnt": 900, "test": 60, "for_paraphrases": [899, 60]},
                "exact": 0,
                "near": 1,
                "paraphrase": 1,
                "left_out": {"exact": 0, "near": 0, "paraphrase": 0},
                "examples": [{"kind": "near", "train": "My card is lost.", "test": "My card is lost!", "similarity": 0.96}],
            },
            "answers_references": {
                "compared": {"learnt": 850, "test": 60, "for_paraphrases": [850, 60]},
                "exact": 0,
                "near": 0,
                "paraphrase": 0,
                "left_out": {"exact": 0, "near": 0, "paraphrase": 0},
                "examples": [],
            },
        },
    }


def series() -> tuple[list[tuple[float, float]], dict[str, list[tuple[float, float]]]]:
    """Training figures as `gather.training_series` returns them."""
    losses = [(float(step), 0.2 + 2.4 * math.exp(-step / 250) + 0.05 * math.sin(step)) for step in range(1, 1_201)]
    return losses, {"accuracy": [(float(step), 0.88 - 0.6 * math.exp(-step / 300)) for step in range(200, 1_201, 200)]}


def _evaluation(rows: int) -> dict[str, Any]:
    kinds = {"teacher": "teacher", "baseline": "baseline", "student": "student", "sft": "sft", "tfidf": "tfidf"}
    found = {
        system: {
            "kind": kinds[system],
            "title": {"tfidf": "TF-IDF + regression"}.get(system, system),
            **{"unparsable": 4 if system == "student" else 0, "no_room": 0, "failed": 0, "truncated": 0},
            "scores": {"accuracy": score(_RIGHT[system], rows), "macro_f1": score(_RIGHT[system] - 0.02, rows, 0.04)},
        }
        for system in SYSTEMS
    }
    student = {"retention": estimate(0.957), "gain": estimate(0.7), "gap_recovered": estimate(0.946), "over_tfidf": estimate(0.14)}
    compared = {"student": student, "tfidf": {"retention": estimate(0.804)}}
    return {
        "schema_version": 3,
        "task": "nli",
        "rows": rows,
        "questions": rows,
        "scored": rows,
        "groups": rows,
        "seed": 7,
        "settings": {"unit": "row", "fewest_units": 10, "few_units": 30, "resamples": 10_000, "confidence": 0.95},
        "primary": "accuracy",
        "metrics": {
            "accuracy": {"title": "Accuracy", "higher_is_better": True},
            "macro_f1": {"title": "Macro-F1", "higher_is_better": True},
        },
        "systems": found,
        "comparisons": {"accuracy": compared, "macro_f1": compared},
        "agreement": {"metric": "accuracy", "title": "Accuracy", "scores": {"student": score(0.86, rows), "sft": score(0.8, rows)}},
        "sizes": {system: _size(system) for system in SYSTEMS},
        "slices": [*_slices("label", LABELS), *_slices("tag", ("app", "phone")), *_slices("length", ("short", "medium", "long"))],
        "confusion": {system: _confusion(_RIGHT[system]) for system in ("teacher", "student")},
        "calibration": {system: _calibration() for system in ("student", "sft")},
        "tests": {"accuracy": {"student": {"teacher": _test("mcnemar", 0.031), "sft": _test("mcnemar", 0.0002)}}},
        "goals": [
            _goal(
                "retention", "pass", "What the student keeps of its teacher in Accuracy is 96 % [93, 99], 92 % or more wanted: pass.", None
            ),
            _goal("latency_reduction", "fail", "Time saved by the median answer is 76 % [70, 80], 85 % or more wanted: fail.", None),
            _goal(
                "accuracy",
                "inconclusive",
                "Accuracy is 0.88 [0.85, 0.91], 0.9 or more wanted: inconclusive; about 1,200 test questions would decide it (so far 300).",
                1_200,
            ),
        ],
        "judge": {
            "model": "another-model",
            "rubric": "Which answer names the intent?",
            "pairs": rows,
            "wins": rows // 5,
            "ties": rows // 2,
            "losses": rows // 5,
            "abstained": rows - rows // 5 * 2 - rows // 2,
            "win_rate": score(0.43, rows),
            "position_flips": 0.07,
            "agreement_with_references": score(0.81, rows),
            "dollars": 0.8,
        },
        "lm_eval": {"arc_easy": {"teacher": {"acc": {"value": 0.7, "stderr": 0.01}}, "student": {"acc": {"value": 0.31, "stderr": 0.01}}}},
    }


def _size(system: str) -> dict[str, Any]:
    return {
        "parameters": int(_BYTES[system] / 4),
        "weights_bytes": int(_BYTES[system]),
        "disk_bytes": int(_BYTES[system] * 1.02),
        "storage": "float32",
        "shipped_bytes": None,
    }


def _timing(system: str) -> dict[str, Any]:
    draw = random.Random(system)
    middle = _SECONDS[system]
    samples = sorted(middle * math.exp(draw.gauss(0, 0.25)) for _ in range(200))
    return {
        "where": "in a process of its own",
        "p50_s": middle,
        "p95_s": samples[189],
        "tokens_per_answer": 4.0,
        "tokens_per_s": 3 / middle,
        "n": 200,
        "threads": 2,
        "latency_s": {"p50": middle, "p95": samples[189], "p99": samples[197], "samples": samples},
        "throughput": [
            {
                "concurrency": at,
                "requests_per_s": at**0.7 / middle,
                "tokens_per_s": 4 * at**0.7 / middle,
                "p50_s": middle * at**0.3,
                "p95_s": 2 * middle * at**0.3,
            }
            for at in (1, 2, 4, 8, 16)
        ],
        "peak_above_empty_bytes": int(_BYTES[system] * 1.3),
    }


def _slices(by: str, names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {
            "by": by,
            "name": name,
            "n": 50,
            "systems": {system: score(_RIGHT[system], 50, 0.08) for system in ("teacher", "student")},
            "retention": estimate(0.99 - 0.03 * place, 0.05 + 0.01 * place) if name != "wrong amount" else estimate(0.7, 0.08),
        }
        for place, name in enumerate(names)
    ]


def _confusion(right: float) -> dict[str, Any]:
    draw = random.Random(right)
    counts = [
        [round(50 * right) if row == column else draw.choice((0, 0, 1, 2)) for column in range(len(LABELS))] for row in range(len(LABELS))
    ]
    return {"labels": list(LABELS), "counts": counts, "unparsable": [0, 1, 0, 0, 2, 0]}


def _calibration() -> dict[str, Any]:
    bins = [
        {"low": low / 10, "high": (low + 1) / 10, "n": 10 * low, "confidence": low / 10 + 0.05, "accuracy": max(0.0, low / 10 - 0.02)}
        for low in range(3, 10)
    ]
    return {"ece": score(0.07, 300), "bins": [{"low": 0.2, "high": 0.3, "n": 0, "confidence": None, "accuracy": None}, *bins]}


def _test(method: str, p: float) -> dict[str, Any]:
    return {"method": method, "p": p, "n": 300}


def _goal(goal: str, verdict: str, sentence: str, needed: int | None) -> dict[str, Any]:
    return {
        "goal": goal,
        "unit": "share",
        "wanted": 0.92,
        "margin": None,
        "found": 0.9,
        "interval": None,
        "verdict": verdict,
        "needed_n": needed,
        "sentence": sentence,
    }
